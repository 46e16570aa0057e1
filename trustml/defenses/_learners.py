"""What data safeguards ask of a model: probabilities by cross-validation, features by class."""

from typing import Any

import torch
from torch import Tensor

from trustml.access import in_blocks
from trustml.contracts import Split
from trustml.errors import BadInput, BadOption
from trustml.fitted import fitted, shuffled


def cross_validated(split: Split, recipe: str, folds: int, trusted: Tensor) -> Tensor:
    """Return probabilities (B, K) for each sample, of a model that has not learnt from it.

    Args:
        split: the samples.
        recipe: of the model.
        folds: how many parts are left out, one after the other.
        trusted: (B,) bool, which samples a model may learn from.

    Raises:
        BadOption: fewer than two folds.
        BadInput: more folds than samples.
        TrustError: the model cannot be fitted.
    """
    if folds < 2:
        raise BadOption(f"folds={folds} is not allowed: 2 or more")
    if len(split) < 2 * folds:
        raise BadInput(f"{len(split)} samples are too few for {folds} folds")
    fold = shuffled(len(split), 0).argsort().to(split.x.device) % folds
    found = torch.zeros(len(split), split.classes, device=split.x.device)
    for number in range(folds):
        module = fitted(split.at((fold != number) & trusted), recipe, number)
        with torch.no_grad():
            found[fold == number] = in_blocks(module, split.x[fold == number]).softmax(1)
    return found


def learnt_features(split: Split, recipe: str) -> Tensor:
    """Return the features (B, D) of the samples, in a model that has learnt from them.

    Raises:
        TrustError: the model cannot be fitted.
    """
    module: Any = fitted(split, recipe)
    with torch.no_grad():
        return in_blocks(lambda x: module.features(x).flatten(1), split.x)


def check_share(safeguard: str, name: str, share: float) -> None:
    """Refuse what is no share.

    Raises:
        BadOption: it is not above 0 and below 1.
    """
    if not 0 < share < 1:
        raise BadOption(f"{safeguard}: {name}={share:g} is not allowed: above 0 and below 1")
