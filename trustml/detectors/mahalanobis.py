"""Mahalanobis distance to the nearest class mean."""

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


@detector(source="Lee et al. 2018, arXiv:1807.03888, equations 1 and 2", reads=("features",))
def mahalanobis(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by the least squared Mahalanobis distance to a class mean, (B,), one shared covariance.

    Directions in which the training features do not vary within classes are left out
    (pseudo-inverse).

    Raises:
        NotApplicable: no features, or constant ones.
        BadInput: no training outputs, or features that are no numbers.
    """
    need_rows(train, "training")
    known, middle = centred(features_of(train))
    means, shares = class_means(known, train.y)
    root = inverse_root(within(covariance(known), means, shares))
    centres = means @ root

    def score(outputs: Outputs) -> Tensor:
        points = (features_of(outputs).double() - middle) @ root
        return squared_distances(points, centres).amin(1)

    return score
