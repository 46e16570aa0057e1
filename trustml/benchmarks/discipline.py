"""What a kind of exam must offer to the harness, and what the harness gives to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from trustml.benchmarks.plan import Case, Plan
from trustml.benchmarks.setting import Setting
from trustml.contracts import Dataset, Record

CASES, MODELS, SAMPLES = "cases", "models", "samples.safetensors"
# How much of a case can be done elsewhere and earlier: nothing, its shards, or all of it.
Apart = Literal["no", "shards", "all"]


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


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A piece of a case's work that can be done elsewhere, before the case.

    Args:
        file: of the run's folder, there once the piece is done; pieces of one file are one.
        what: which piece it is.
    """

    file: str
    what: Any


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
        read: the sample file of a case; raises BrokenClaim that says what in it is damaged.
        verified: sees that what a record claims holds; raises BrokenClaim.
        apart: how much of a case can be made apart from the other cases, elsewhere and earlier.
        after: a case, the cases of its model and seed → those whose records and files it reads.
        shards: the pieces of a case that can be made before it.
        made: makes a piece: its file, below the bench's folder.
    """

    kinds: tuple[str, ...]
    wanted: Callable[[Plan], bool]
    checked: Callable[[Plan], Plan]
    cases: Callable[[Plan, Dataset, str, str, int], list[Case]]
    size: Callable[[Plan], int]
    examined: Callable[[Case, Record, Bench], Record]
    verified: Callable[[Case, Record, Bench], None]
    read: Callable[[Path], Any]
    apart: Callable[[Plan, Case], Apart] = lambda plan, case: "no"
    after: Callable[[Case, Sequence[Case]], Sequence[str]] = lambda case, others: ()
    shards: Callable[[Case, Bench], Sequence[Shard]] = lambda case, bench: ()
    made: Callable[[Case, Bench, Shard], None] = lambda case, bench, shard: None
