"""Density of one Gaussian a class over the features."""

import math

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._gaussians import centred, class_means, covariance
from trustml.detectors._parts import Scorer, features_of, need_between, need_rows
from trustml.errors import NotApplicable
from trustml.registry import detector


@detector(source="Mukhoti et al. 2023, arXiv:2102.11582 (DDU), section 4", reads=("features",))
def gaussian_features(
    model: Classifier, train: Outputs, validation: Outputs, /, *, shrinkage: float = 1e-3
) -> Scorer:
    """Score by minus the log density of a mixture of one Gaussian a class, (B,), in nats.

    Args:
        shrinkage: variance added in every direction, as a share of the mean variance of a feature:
            it keeps the covariance of few samples, or of features that stay 0, invertible.

    Raises:
        NotApplicable: no features, constant ones, or a shrinkage too small to invert a covariance.
        BadInput: no training outputs, or features that are no numbers.
        BadOption: a shrinkage outside 0 to 1.
    """
    need_between("gaussian_features", 0, 1, shrinkage=shrinkage)
    need_rows(train, "training")
    known, middle = centred(features_of(train))
    means, shares = class_means(known, train.y)
    labels = zip(train.y.unique(), means, strict=True)
    spread = torch.stack([covariance(known[train.y == label] - mean) for label, mean in labels])
    variance = known.square().mean()
    spread = spread + shrinkage * variance * torch.eye(known.shape[1]).to(known)
    root, failed = torch.linalg.cholesky_ex(spread)
    if bool(failed.any()):
        raise NotApplicable(
            f"the covariance of a class cannot be inverted with shrinkage={shrinkage}: "
            f"raise it, unless the features are constant"
        )
    inverse = torch.linalg.inv(root)
    offset = shares.log() - root.diagonal(dim1=1, dim2=2).log().sum(1)
    offset = offset - 0.5 * known.shape[1] * math.log(2 * math.pi)

    def score(outputs: Outputs) -> Tensor:
        points = features_of(outputs).double() - middle
        distances = [
            ((points - mean) @ each.T).square_().sum(1)
            for mean, each in zip(means, inverse, strict=True)
        ]
        return -(offset - 0.5 * torch.stack(distances, 1)).logsumexp(1)

    return score
