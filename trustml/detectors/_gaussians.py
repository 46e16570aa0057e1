"""Class means, covariances and their inverse roots, in float64."""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from trustml.errors import NotApplicable

# Float32 features vary by 1e-7 of their size by rounding alone, 1e-14 of the greatest variance.
LEAST_VARIANCE = 1e-12


def centred(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features (N, D) less their mean, and the mean (D,), in float64."""
    known = features.double()
    middle = known.mean(0)
    return known - middle, middle


def class_means(features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean features (K, D) and share (K,) of every class that there is."""
    members = one_hot(y).to(features)
    count = members.sum(0)
    sums = members.T @ features
    known = count > 0
    return sums[known] / count[known, None], count[known] / count.sum()


def covariance(centred_features: Tensor) -> Tensor:
    """Return the mean outer product (D, D) of features (N, D) about 0."""
    return centred_features.T @ centred_features / len(centred_features)


def within(whole: Tensor, means: Tensor, shares: Tensor) -> Tensor:
    """Return the covariance (D, D) that classes share: the whole one less that of their means.

    Args:
        whole: covariance of all.
        means: of the classes (K, D), about the mean of all.
        shares: of the classes in all (K,).
    """
    return whole - (means.T * shares) @ means


def inverse_root(matrix: Tensor) -> Tensor:
    """Return R (D, rank) with R·Rᵀ the pseudo-inverse of a covariance.

    Raises:
        NotApplicable: the covariance is zero.
    """
    values, vectors = torch.linalg.eigh(matrix)
    if not float(values[-1]) > 0:
        raise NotApplicable("the training features are constant: they tell no input from another")
    kept = values > LEAST_VARIANCE * values[-1]
    return vectors[:, kept] / values[kept].sqrt()


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """Return ‖point - centre‖² (B, K) for points (B, D) and centres (K, D)."""
    cross = points @ centres.T
    return (points.square().sum(1)[:, None] + centres.square().sum(1) - 2 * cross).clamp_min(0)
