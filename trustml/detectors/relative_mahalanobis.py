"""Mahalanobis distance to the nearest class less that to all training data."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._gaussians import (
    centred,
    class_means,
    covariance,
    inverse_root,
    squared_distances,
    within,
)
from trustml.detectors._parts import Scorer, features_of, need_rows
from trustml.registry import detector


@detector(source="Ren et al. 2021, arXiv:2106.09022, equation 4", reads=("features",))
def relative_mahalanobis(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by the squared distance to the nearest class less that to the whole, (B,).

    Each is in its own covariance; directions in which the training features do not vary are left
    out (pseudo-inverse).

    Raises:
        NotApplicable: no features, or constant ones.
        BadInput: no training outputs, or features that are no numbers.
    """
    need_rows(train, "training")
    known, middle = centred(features_of(train))
    means, shares = class_means(known, train.y)
    spread = covariance(known)
    root, whole = inverse_root(within(spread, means, shares)), inverse_root(spread)
    centres = means @ root

    def score(outputs: Outputs) -> Tensor:
        points = features_of(outputs).double() - middle
        background = (points @ whole).square().sum(1)
        return squared_distances(points @ root, centres).amin(1) - background

    return score
