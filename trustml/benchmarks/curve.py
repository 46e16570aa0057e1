"""Robust accuracy against epsilon, from the distances of one run."""

from dataclasses import dataclass
from pathlib import Path

import torch

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import finished
from trustml.benchmarks.samples import CLEAN_WRONG, NORMS, ROBUST
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True)
class Curve:
    """One case: robust accuracy (in [0, 1]) is `accuracies[i]` from `epsilons[i]` on, a step each.

    The curve starts at epsilon 0 with the clean accuracy.
    """

    case: str
    norm: str
    epsilons: tuple[float, ...]
    accuracies: tuple[float, ...]


def curves(folder: Path) -> list[Curve]:
    """Return the curve of every finished case.

    Raises:
        BadInput: the folder holds no run, or no finished case.
        BrokenClaim: a sample file is damaged.
    """
    found = []
    for record in finished(folder):
        if record.status == "done" and record.samples:
            samples, _ = on_disk.read(folder / CASES / record.case / SAMPLES)
            norm = str(record.threat["norm"])
            found.append(_curve(record.case, norm, samples))
    if not found:
        raise BadInput(f"{folder}: no case is finished, so there is no curve to draw")
    return found


def _curve(case: str, norm: str, samples: on_disk.Samples) -> Curve:
    far = samples.distances[:, NORMS.index(norm)].clone()
    far[samples.verdict == ROBUST] = torch.inf
    far = far[samples.verdict != CLEAN_WRONG]
    ends, counts = far[far.isfinite()].unique(return_counts=True)
    left = (len(far) - counts.cumsum(0)).double() / len(samples)
    return Curve(
        case, norm, (0.0, *ends.tolist()), (len(far) / len(samples), *left.tolist())
    )  # fmt: skip
