"""What front ends that keep the largest features of each sample share."""

import torch
from torch import Tensor

from trustml.contracts import Outputs
from trustml.detectors._parts import features_of
from trustml.errors import NotApplicable


def need_activations(owner: str, train: Outputs) -> None:
    """Refuse features below 0, whose sum says nothing of their size.

    Raises:
        NotApplicable: there are some, or no features at all.
        BadInput: features that are no numbers.
    """
    if bool((features_of(train) < 0).any()):
        raise NotApplicable(
            f"{owner} needs features of 0 or more, as a ReLU gives them, and some training "
            f"features are below 0: take react, or another activation"
        )


def largest(features: Tensor, percentile: float) -> Tensor:
    """Return the features (B, D) with all but the largest of each row 0.

    Kept are the share above the percentile, and one at least.
    """
    width = features.shape[1]
    kept = max(width - round(width * percentile / 100), 1)
    top = features.topk(kept, dim=1, sorted=False)
    return torch.zeros_like(features).scatter_(1, top.indices, top.values)


def growth(features: Tensor, kept: Tensor) -> Tensor:
    """Return exp(Σ features / Σ kept), (B, 1); e where both are 0."""
    whole, part = features.sum(1, keepdim=True), kept.sum(1, keepdim=True)
    return torch.where(part > 0, whole / part, 1.0).exp()
