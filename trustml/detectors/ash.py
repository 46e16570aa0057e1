"""ASH: all but the largest features of each sample removed."""

from typing import Literal

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._head import last_layer
from trustml.detectors._parts import Change, features_of, need_between
from trustml.detectors._shaping import growth, largest, need_activations
from trustml.registry import detector


@detector(
    source="Djurisic et al. 2023, arXiv:2209.09858, algorithms 1 to 3",
    reads=("logits", "features"),
    front_end="energy",
)
def ash(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    variant: Literal["s", "b", "p"] = "s",
    percentile: float = 65.0,
) -> Change:
    """Return outputs with the smaller features (B, D) of each sample 0, and the logits of these.

    Args:
        variant: s multiplies what is left by exp(Σ before / Σ after), b gives every one left an
            equal share of the sum before, p leaves them.
        percentile: how many of a sample's features are removed, in percent; one always stays.

    Raises:
        NotApplicable: no features, some below 0, or a last layer that is not linear.
        BadInput: outputs that are no numbers.
        BadOption: a percentile outside 0 to 100.
    """
    need_between("ash", 0, 100, percentile=percentile)
    need_activations("ash", train)
    head = last_layer(model, train, validation)

    def change(outputs: Outputs) -> Outputs:
        features = features_of(outputs).float()
        return head.after(outputs, _shaped(features, variant, percentile))

    return change


def _shaped(features: Tensor, variant: str, percentile: float) -> Tensor:
    if variant == "b":
        # Marked by place, not by value: a feature of 0 may be among the largest.
        kept = largest(features + 1, percentile) > 0
        share = features.sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        return torch.where(kept, share, 0.0)
    kept = largest(features, percentile)
    return kept if variant == "p" else kept * growth(features, kept)
