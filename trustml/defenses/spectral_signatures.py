"""Samples that stand out along the direction in which their class's features vary most."""

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.defenses._learners import check_share, learnt_features
from trustml.registry import safeguard

MARGIN = 1.5  # the paper takes out so many times as many as there may be


@safeguard(
    source="Tran, Li, Madry 2018, arXiv:1811.00636, algorithm 1",
    stage="data",
    beaten_by="poisons whose features do not vary along one direction of their class",
    does_not_stop="label flips, drift, and more poisons than its rate expects",
)
def spectral_signatures(split: Split, /, *, rate: float = 0.05, model: str = "mlp") -> Split:
    """Return the split without the oddest samples of each class.

    Args:
        split: a share of any class may be poisoned.
        rate: share of the samples that may be; 1.5 times as many go from each class, or half of it.
        model: recipe of the model that is trained for its features, in double quotes where it has
            options: model="mlp:epochs=5".

    Raises:
        BadOption: a rate that is not between 0 and 1, or no such model.
    """
    check_share("spectral_signatures", "rate", rate)
    score = spectral_scores(learnt_features(split, model), split.y)
    keep = torch.ones(len(split), dtype=torch.bool, device=score.device)
    for number in range(split.classes):
        rows = (split.y == number).nonzero()[:, 0]
        count = min(round(MARGIN * rate * len(split)), len(rows) // 2)
        keep[rows[score[rows].argsort(descending=True)[:count]]] = False
    return split.at(keep)


def spectral_scores(features: Tensor, y: Tensor) -> Tensor:
    """Return (B,) float64: the squared share of the top singular direction of the sample's class.

    Args:
        features: (B, D).
        y: labels (B,).
    """
    score = torch.zeros(len(y), dtype=torch.float64)
    for number in y.unique().tolist():
        rows = (y == number).cpu()
        part = features.cpu()[rows].double()
        part = part - part.mean(0)
        direction = torch.linalg.svd(part, full_matrices=False).Vh[0]
        score[rows] = (part @ direction).square()
    return score.to(features.device)
