"""Three scores added up: energy, nearest neighbours and Mahalanobis distance."""

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, need_rows
from trustml.detectors.energy import energy
from trustml.detectors.knn import knn
from trustml.detectors.mahalanobis import mahalanobis
from trustml.registry import detector


@detector(
    source="trustml: sum of z-scores of energy, knn and mahalanobis",
    reads=("logits", "features"),
)
def fusion(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    k: int = 10,
    samples: int | None = 10_000,
) -> Scorer:
    """Score by the sum of energy, knn and mahalanobis, (B,), each in its spread on validation data.

    No out-of-distribution data is seen. A score that is constant on the validation outputs has no
    unit, and is left out.

    Args:
        k: which neighbour knn looks at.
        samples: how many training samples it looks among, or none for all.

    Raises:
        NotApplicable: no features, or one of the three is not for this model.
        BadInput: no training or validation outputs, or outputs that are no numbers.
        BadOption: a k or samples out of range.
    """
    need_rows(validation, "validation")
    parts = (
        energy(model, train, validation),
        knn(model, train, validation, k=k, samples=samples),
        mahalanobis(model, train, validation),
    )
    known = _scores(parts, validation)
    middle, spread = known.mean(1), known.std(1, correction=0)
    weight = torch.where(spread > 0, 1 / spread, 0.0)

    def score(outputs: Outputs) -> Tensor:
        return weight @ (_scores(parts, outputs) - middle[:, None])

    return score


def _scores(parts: tuple[Scorer, ...], outputs: Outputs) -> Tensor:
    """Return the scores (3, B)."""
    return torch.stack([part(outputs).double() for part in parts])
