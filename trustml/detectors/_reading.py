"""Asking the model again: its answers to inputs that were changed, in blocks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from trustml.access import frozen
from trustml.contracts import Classifier, Outputs
from trustml.errors import BadInput, NotApplicable
from trustml.training import device_of

BLOCK = 500


def in_blocks(model: Any, ask: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return what `ask` returns for x, some rows at a time, asked where the model is."""
    device = place_of(model, x)
    parts = [ask(block.to(device)).to(x.device) for block in x.split(BLOCK)]
    return torch.cat(parts)


def place_of(model: Any, x: Tensor) -> torch.device:
    """Return the model's device, or that of x for what is no module."""
    return device_of(model) if isinstance(model, nn.Module) else x.device


def graph_of(x: Tensor) -> torch.set_grad_enabled:
    """Return a block in which answers have a graph just where the inputs have one.

    Scores are seldom asked for with one: an attack that knows the detector does.
    """
    return torch.set_grad_enabled(x.requires_grad and torch.is_grad_enabled())


def answers(model: Classifier, x: Tensor) -> Tensor:
    """Return the logits (B, K) of inputs in float64, with a graph where the inputs have one.

    Raises:
        BadInput: an answer is not a finite number.
    """
    with frozen(model), graph_of(x):
        logits = in_blocks(model, model, x).double()
    if not bool(logits.isfinite().all()):
        raise BadInput("the model's answers to changed inputs hold NaN or an infinity")
    return logits


def bounds_of(train: Outputs) -> tuple[float, float]:
    """Return the box of the inputs: [0, 1] if it holds the training inputs, else their range.

    Raises:
        BadInput: no training inputs, or ones that are all the same number.
    """
    if not train.x.numel():
        raise BadInput("there are no training inputs")
    low, high = float(train.x.min()), float(train.x.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if not high > low:
        raise BadInput("the training inputs are all the same number")
    return low, high


def uphill(model: Classifier, x: Tensor, height: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the gradient (B, *S) of the height (B,) of the logits with respect to the inputs.

    Raises:
        NotApplicable: the model's answers have no gradient.
    """

    def slope(block: Tensor) -> Tensor:
        start = block.detach().clone().requires_grad_()
        total = height(model(start)).sum()
        if not total.requires_grad:
            raise NotApplicable("it needs gradients through the model, and its answers have none")
        return torch.autograd.grad(total, start)[0]

    with frozen(model), torch.enable_grad():
        return in_blocks(model, slope, x)
