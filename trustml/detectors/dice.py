"""DICE: only the weights of the last layer that contribute most are kept."""

from dataclasses import replace

import torch

from trustml.contracts import Classifier, Outputs
from trustml.detectors._head import Head, last_layer
from trustml.detectors._parts import Change, features_of, need_between, need_rows
from trustml.registry import detector


@detector(
    source="Sun & Li 2022, arXiv:2111.09805, section 3",
    reads=("logits", "features"),
    front_end="energy",
)
def dice(
    model: Classifier, train: Outputs, validation: Outputs, /, *, sparsity: float = 90.0
) -> Change:
    """Return outputs with the logits (B, K) of a last layer of which the lesser weights are 0.

    A weight contributes itself times the mean training feature that it reads.

    Args:
        sparsity: how many of the weights are removed, in percent.

    Raises:
        NotApplicable: no features, or a last layer that is not linear.
        BadInput: no training outputs, or outputs that are no numbers.
        BadOption: a sparsity outside 0 to 100.
    """
    need_between("dice", 0, 100, sparsity=sparsity)
    need_rows(train, "training")
    head = last_layer(model, train, validation)
    contribution = head.weight * features_of(train).float().mean(0)
    ordered = contribution.flatten().sort().values
    least = torch.quantile(ordered, sparsity / 100)
    sparse = Head(torch.where(contribution > least, head.weight, 0.0), head.bias)

    def change(outputs: Outputs) -> Outputs:
        features = features_of(outputs)
        return replace(outputs, logits=sparse(features.float()), draws=None)

    return change
