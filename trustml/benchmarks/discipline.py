"""What a kind of exam must offer to the harness, and what the harness gives to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from trustml.benchmarks.plan import Case, Plan
from trustml.benchmarks.setting import Setting
from trustml.contracts import Dataset, Record

CASES, MODELS, SAMPLES = "cases", "models", "samples.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What a case is examined with.

    Args:
        setting: the trained model on the samples under examination.
        group: the records of the same model and seed that were made before, in order.
        memory: what the cases of this model and seed share, such as the model's outputs.
    """

    plan: Plan
    dataset: Dataset
    setting: Setting
    folder: Path
    device: torch.device
    group: Sequence[Record]
    memory: dict[str, Any] = field(default_factory=dict)

    def home(self, case: str) -> Path:
        """Return the case's own folder."""
        return self.folder / CASES / case


@dataclass(frozen=True, slots=True)
class Discipline:
    """One kind of exam.

    Args:
        kinds: the kinds of its records.
        wanted: whether a plan asks for it.
        checked: the plan with its texts canonical; raises UsageError for what cannot be.
        cases: the cases of one model (its recipe's text, its label) with one seed, in order.
        size: how many cases those are.
        examined: the record of a case, filled in; it may raise TrustError.
        parts: whether a case can be made apart from the other cases, elsewhere and earlier.
        read: the sample file of a case; raises BrokenClaim that says what in it is damaged.
        verified: sees that what a record claims holds; raises BrokenClaim.
    """

    kinds: tuple[str, ...]
    wanted: Callable[[Plan], bool]
    checked: Callable[[Plan], Plan]
    cases: Callable[[Plan, Dataset, str, str, int], list[Case]]
    size: Callable[[Plan], int]
    examined: Callable[[Case, Record, Bench], Record]
    verified: Callable[[Case, Record, Bench], None]
    read: Callable[[Path], Any]
    parts: Callable[[Plan, Case], bool] = lambda plan, case: False
