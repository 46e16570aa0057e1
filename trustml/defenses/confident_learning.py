"""Labels that a model, which has not learnt from them, confidently takes for others."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.defenses._learners import cross_validated
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Northcutt, Jiang, Chuang 2021, arXiv:1911.00068, equation 1",
    stage="data",
    beaten_by="flips that a model trained on the same data believes: many, between near classes",
    does_not_stop="poisons with right labels, and triggers that the model has learnt by heart",
)
def confident_learning(
    split: Split,
    /,
    *,
    model: str = "mlp",
    folds: int = 5,
    rounds: int = 3,
    by: Literal["confident_joint", "confusion"] = "confident_joint",
    action: Literal["drop", "relabel"] = "drop",
) -> Split:
    """Return the split without the samples, or with new labels for them, whose labels seem wrong.

    Args:
        split: labels may be wrong.
        model: recipe of the model that is trained `folds` times, in double quotes where it has
            options: model="mlp:epochs=5".
        folds: parts of the cross-validation.
        rounds: of it; after the first, models learn only from labels that they agreed with.
        by: wrong is what is confidently of another class; or all that is thought to be of another,
            which finds more of the wrong labels and takes more right ones with them.
        action: with the samples that are found.

    Raises:
        BadOption: fewer than two folds, no round, or no such model.
        BadInput: fewer than two samples a fold.
    """
    if rounds < 1:
        raise BadOption(f"confident_learning: rounds={rounds} is not allowed: 1 or more")
    agreed = torch.ones_like(split.y, dtype=torch.bool)
    for _ in range(rounds):
        probabilities = cross_validated(split, model, folds, agreed)
        agreed = probabilities.argmax(1) == split.y
    wrong = ~agreed if by == "confusion" else wrong_labels(probabilities, split.y)
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
