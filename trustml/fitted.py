"""A plain model of a recipe, fitted for a method's own use: a surrogate, or one that is asked."""

import torch
from torch import Tensor, nn

from trustml.contracts import Split
from trustml.errors import BadOption
from trustml.recipes import read_recipe
from trustml.registry import get
from trustml.training import fit, seeded

HELD = 10  # one sample in so many says when to stop


def fitted(split: Split, recipe: str, seed: int = 0) -> nn.Module:
    """Return a model of the recipe, fitted on nine tenths of the split and stopped by the tenth.

    Raises:
        BadOption: the recipe has safeguards, or weights from a file.
        TrustError: there is no such model, or it cannot be fitted.
    """
    chosen = read_recipe(recipe)
    if chosen.safeguards or chosen.weights is not None:
        raise BadOption(
            f"model={recipe!r}: a plain model is trained here, no safeguards or weights"
        )
    with seeded(seed):
        module: nn.Module = get("model", chosen.model.plugin.name).function(
            split.domain, **chosen.own
        )
    module.to(split.x.device)
    order = shuffled(len(split), seed).to(split.x.device)
    held = max(1, len(split) // HELD)
    fit(module, split.at(order[held:]), split.at(order[:held]), chosen.training, seed)
    return module


def shuffled(count: int, seed: int) -> Tensor:
    """Return the rows 0 to count - 1 in an order that the seed decides."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
