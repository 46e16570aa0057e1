"""From verdicts on samples to the scores and costs of a record."""

import torch

from trustml import beyond, metrics
from trustml.benchmarks.samples import (
    CERTIFIED,
    CLEAN_WRONG,
    FOOLED,
    NORMS,
    ROBUST,
    Samples,
    sealed,
)
from trustml.contracts import Cost, Measure, Score


def scores(samples: Samples, side: float, norm: Measure = "linf") -> dict[str, Score]:
    """Return clean and robust accuracy, attack success, and the fooled samples' median distances.

    Samples that are wrong without an attack count as wrong, not as successes; those that are proved
    to be robust count as robust, and apart.

    Args:
        samples: of a case.
        side: the box's, which bounds the distances.
        norm: of the threat: a measure that is no norm has a distance of its own.
    """
    verdict, count = samples.verdict, len(samples)
    fooled = verdict == FOOLED
    right = count - int((verdict == CLEAN_WRONG).sum())
    proved = int((verdict == CERTIFIED).sum())
    standing = proved + int((verdict == ROBUST).sum())
    found = {
        "clean accuracy": metrics.proportion(right, count),
        "robust accuracy": metrics.proportion(standing, count),
    }
    if proved:
        found["certified accuracy"] = metrics.proportion(proved, count)
    if right:
        found["attack success"] = metrics.proportion(int(fooled.sum()), right, better="lower")
    if fooled.any():
        known: list[Measure] = [*NORMS] if norm in NORMS else [*NORMS, norm]
        for place, each in enumerate(known):
            far = samples.distances[fooled, place]
            most = beyond.widest(each, side, tuple(samples.adversarial.shape[1:]))
            found[f"median {each}"] = metrics.median(far, "higher", low=0.0, high=most)
    return found


def proved_scores(samples: Samples) -> dict[str, Score]:
    """Return clean accuracy, and the share of all samples that no attack can fool."""
    count = len(samples)
    right = count - int((samples.verdict == CLEAN_WRONG).sum())
    return {
        "clean accuracy": metrics.proportion(right, count),
        "certified accuracy": metrics.proportion(int((samples.verdict == CERTIFIED).sum()), count),
    }


def cost(samples: Samples, seconds: float, peak_mib: float | None) -> Cost:
    """Return the cost, its passes a mean over the samples that were attacked."""
    attacked = (samples.verdict != CLEAN_WRONG) & (samples.verdict != CERTIFIED)
    mean = [
        float(passes[attacked].mean()) if attacked.any() else 0.0
        for passes in (samples.forwards, samples.backwards)
    ]
    return Cost(seconds, mean[0], mean[1], mean[0], peak_mib)


def worst_case(parts: list[Samples], norm: str) -> Samples:
    """Return, for each sample, the nearest input of any attack that fooled the model.

    Where none did, the first attack's. Passes are those of all the attacks.
    """
    # A measure that is no norm has the last column.
    place = list(NORMS).index(norm) if norm in NORMS else len(NORMS)
    fooled = torch.stack([part.verdict == FOOLED for part in parts])
    far = torch.stack([part.distances[:, place] for part in parts])
    best = torch.where(fooled, far, torch.inf).argmin(0)
    rows = torch.arange(len(best))

    def pick(name: str) -> torch.Tensor:
        return torch.stack([getattr(part, name) for part in parts])[best, rows]

    forwards = torch.stack([part.forwards for part in parts]).sum(0)
    backwards = torch.stack([part.backwards for part in parts]).sum(0)
    passes = (forwards, backwards)
    return sealed(parts[0].ids, pick("verdict"), pick("adversarial"), pick("distances"), passes)
