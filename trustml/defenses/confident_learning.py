"""Labels that a model, which has not learnt from them, confidently takes for others."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.defenses._learners import cross_validated
from trustml.registry import safeguard


@safeguard(source="Northcutt, Jiang, Chuang 2021, arXiv:1911.00068, equation 1", stage="data")
def confident_learning(
    split: Split,
    /,
    *,
    model: str = "mlp",
    folds: int = 5,
    action: Literal["drop", "relabel"] = "drop",
) -> Split:
    """Return the split without the samples, or with new labels for them, whose labels seem wrong.

    Args:
        split: labels may be wrong.
        model: recipe of the model that is trained `folds` times, in double quotes where it has
            options: model="mlp:epochs=5".
        folds: parts of the cross-validation.
        action: with the samples that are found.

    Raises:
        BadOption: fewer than two folds, or no such model.
        BadInput: fewer than two samples a fold.
    """
    probabilities = cross_validated(split, model, folds)
    wrong = wrong_labels(probabilities, split.y)
    if action == "drop":
        return split.at(~wrong)
    return replace(split, y=torch.where(wrong, probabilities.argmax(1), split.y))


def wrong_labels(probabilities: Tensor, y: Tensor) -> Tensor:
    """Return (B,) whether a sample is confidently of another class than its label.

    It is confidently of class j if its probability of j reaches the mean probability of j among
    the samples labelled j; of several such classes, of the most probable.

    Args:
        probabilities: (B, K), of models that have not learnt from the sample.
        y: labels (B,).
    """
    labelled = torch.nn.functional.one_hot(y, probabilities.shape[1]).to(probabilities)
    count = labelled.sum(0)
    usual = (labelled * probabilities).sum(0) / count.clamp_min(1)
    usual = torch.where(count > 0, usual, torch.inf)  # nobody is of a class without a label
    confident = torch.where(probabilities >= usual, probabilities, -1.0)
    best, guess = confident.max(1)
    return (best >= 0) & (guess != y)
