"""A recipe's safeguards put to work: data made clean, training made hard, a model behind guards."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen
from trustml.contracts import Dataset, Domain, Doubting, Scaffold, Selective, Split
from trustml.errors import BadInput, MethodFailed, TrustError
from trustml.recipes import Choice, Recipe
from trustml.splits import check_split
from trustml.training import seeded

Splits = tuple[Split, Split]


def sanitised(recipe: Recipe, dataset: Dataset, device: torch.device | str) -> Splits:
    """Return training and validation splits, on the device, after the safeguards of the data.

    Both are cleaned together: who can poison the one can poison the other, and a wrong validation
    split stops a training at the wrong time.

    Raises:
        BadInput: nothing is left of one of them.
        MethodFailed: one raised something unforeseen, or returned another kind of data.
        TrustError: what one says of its options or the data.
    """
    train, validation = dataset.train.to(device), dataset.validation.to(device)
    if not recipe.at("data"):
        return train, validation
    split = _joined(train, validation)
    for choice in recipe.at("data"):
        name = f"safeguard {choice.plugin.name}"
        with seeded(0):
            cleaned = _called(name, partial(choice.plugin.function, split, **choice.options))
        if not isinstance(cleaned, Split) or cleaned.domain != split.domain:
            raise MethodFailed(f"{name} did not return a split of the same shape and classes")
        if not len(cleaned):
            raise BadInput(f"{name} leaves no sample: give it options that find fewer")
        split = check_split(cleaned, f"what {name} leaves")
    learnt_from = torch.isin(split.ids, train.ids)
    parts = split.at(learnt_from), split.at(~learnt_from)
    if not (len(parts[0]) and len(parts[1])):
        raise BadInput(f"{recipe.name} leaves no sample for training, or none for validation")
    return parts


def hardened(recipe: Recipe, domain: Domain, fresh: Callable[[], nn.Module]) -> nn.Module:
    """Return an untrained module, under the recipe's safeguards of the training.

    Raises:
        MethodFailed: one raised something unforeseen, or returned no module.
        TrustError: what one says of its options or the model.
    """
    for choice in recipe.at("training"):
        build = partial(choice.plugin.function, fresh, domain, **choice.options)
        fresh = partial(_module, f"safeguard {choice.plugin.name}", build)
    return fresh()


def deployed(module: nn.Module) -> nn.Module:
    """Return what is left of a module once it is trained."""
    while isinstance(module, Scaffold):
        module = module.deployed
    return module


def guarded(choice: Choice, model: nn.Module, domain: Domain, seed: int) -> nn.Module:
    """Return the model behind a guard that has learnt nothing yet.

    Raises:
        MethodFailed: the guard raised something unforeseen, or is no module.
        TrustError: what it says of its options or the domain.
    """
    build = partial(choice.plugin.function, model, domain, **choice.options)
    with seeded(seed):
        return _module(f"safeguard {choice.plugin.name}", build)


def learnt(choice: Choice, guard: Any, model: nn.Module, splits: Splits, seed: int) -> None:
    """Let a guard learn from the training and validation splits; the model within stays as it is.

    Raises:
        MethodFailed: the guard raised something unforeseen.
        TrustError: what it says of the data.
    """
    with frozen(model), seeded(seed):
        _called(f"safeguard {choice.plugin.name}", partial(guard.learn, *splits, seed))
    guard.eval()


def accepted(model: Any, x: Tensor) -> Tensor:
    """Return (B,) bool: False where the model sends an input to a person; most send none."""
    if isinstance(model, Selective):
        return model.accepts(x)
    return torch.ones(len(x), dtype=torch.bool, device=x.device)


def doubt(model: Any, x: Tensor) -> Tensor | None:
    """Return (B,) how much more suspicious than a gate lets pass, or None where there is no gate.

    A gate that says no more than yes or no is 1 or -1, without a gradient.
    """
    if isinstance(model, Doubting):
        return model.doubt(x)
    if isinstance(model, Selective):
        return 1 - 2 * model.accepts(x).to(x.dtype)
    return None


def _joined(one: Split, other: Split) -> Split:
    x, y = torch.cat([one.x, other.x]), torch.cat([one.y, other.y])
    return Split(x, y, torch.cat([one.ids, other.ids]), one.classes, one.low, one.high)


def _module(name: str, build: Callable[[], Any]) -> nn.Module:
    module = _called(name, build)
    if not isinstance(module, nn.Module):
        raise MethodFailed(f"{name} returned {type(module).__name__}, not a torch nn.Module")
    return module


def _called(name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TrustError:
        raise
    except Exception as error:  # a stranger's safeguard may raise anything
        raise MethodFailed(f"{name}: {type(error).__name__}: {error}") from error
