"""SPECTRE: samples that stand out once their class's features are whitened by its ordinary ones."""

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.defenses._learners import check_share, learnt_features
from trustml.errors import BadOption
from trustml.registry import safeguard

MARGIN = 1.5  # the paper takes out so many times as many as there may be
SHARPNESS = 4.0  # of the weights of directions, as published
ORDINARY, ROUNDS = 0.85, 10  # share that the covariance is read from, and how often it is


@safeguard(
    source="Hayase, Kong, Somani, Oh 2021, arXiv:2104.11315 (covariance of the nearest 85 %)",
    stage="data",
    beaten_by="poisons whose features spread as those of their class do, or more than 15 % of it",
    does_not_stop="label flips, drift, and more poisons than its rate expects",
)
def spectre(
    split: Split, /, *, rate: float = 0.05, dimensions: int = 10, model: str = "mlp"
) -> Split:
    """Return the split without the oddest samples of each class.

    Args:
        split: a share of any class may be poisoned.
        rate: share of the samples that may be; 1.5 times as many go from each class, or half of it.
        dimensions: principal components of the class that are looked at.
        model: recipe of the model that is trained for its features, in double quotes where it has
            options: model="mlp:epochs=5".

    Raises:
        BadOption: a rate that is not between 0 and 1, no dimension, or no such model.
    """
    check_share("spectre", "rate", rate)
    if dimensions < 1:
        raise BadOption(f"spectre: dimensions={dimensions} is not allowed: 1 or more")
    score = whitened_scores(learnt_features(split, model), split.y, dimensions)
    keep = torch.ones(len(split), dtype=torch.bool, device=score.device)
    for number in range(split.classes):
        rows = (split.y == number).nonzero()[:, 0]
        count = min(round(MARGIN * rate * len(split)), len(rows) // 2)
        keep[rows[score[rows].argsort(descending=True)[:count]]] = False
    return split.at(keep)


def whitened_scores(features: Tensor, y: Tensor, dimensions: int) -> Tensor:
    """Return (B,) float64: the quantum entropy score of each sample within its class.

    Args:
        features: (B, D).
        y: labels (B,).
        dimensions: principal components of each class that are looked at.
    """
    score = torch.zeros(len(y), dtype=torch.float64)
    for number in y.unique().tolist():
        rows = (y == number).cpu()
        part = features.detach().cpu()[rows].double()
        part = part - part.mean(0)
        axes = torch.linalg.svd(part, full_matrices=False).Vh[:dimensions]
        score[rows] = entropy_scores(whitened(part @ axes.T))
    return score.to(features.device)


def whitened(seen: Tensor) -> Tensor:
    """Return what is seen (B, D), moved and stretched so that the ordinary ones are standard.

    Ordinary are the nearest ones by the covariance that they have themselves, found in rounds.
    """
    ordinary = torch.ones(len(seen), dtype=torch.bool)
    one = torch.eye(seen.shape[1], dtype=seen.dtype)
    for _ in range(ROUNDS):
        if int(ordinary.sum()) <= 1:
            return seen
        middle = seen[ordinary].mean(0)
        covariance = torch.cov(seen[ordinary].T).reshape(one.shape)
        # A direction without any spread must not divide by zero.
        covariance = covariance + (1e-6 * covariance.diagonal().mean() + 1e-12) * one
        factor = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(factor, (seen - middle).T, upper=False).T
        far = white.square().sum(1)
        ordinary = far <= far.quantile(ORDINARY)
    return white


def entropy_scores(white: Tensor) -> Tensor:
    """Return xᵀQx / tr Q (B,), Q = exp(α (Σ − I) / (‖Σ‖ − 1)), Σ the covariance of white (B, D).

    It lies between the squared length and the square along the direction that varies most.
    """
    count, size = white.shape
    second = white.T @ white / max(count - 1, 1)
    one = torch.eye(size, dtype=white.dtype)
    beyond = float(torch.linalg.matrix_norm(second, 2)) - 1
    if beyond < 1e-6:  # no direction stands out: all weigh the same
        return white.square().mean(1)
    weights = torch.matrix_exp(SHARPNESS * (second - one) / beyond)
    return ((white @ weights) * white).sum(1) / weights.trace()
