"""What an explanation costs: the model's passes, counted where they happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Passes:
    """Rows that went through the model so far, forwards and backwards."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counted(model: Any) -> Iterator[Passes]:
    """Yield the count of the model's passes inside the block; copies of it count too.

    The hook stands on the whole model, so a method sees the module that it would see without.
    Of what is no nn.Module nothing is counted.
    """
    passes = Passes()

    def count(module: nn.Module, inputs: Any, output: Any) -> Any:
        if not isinstance(output, Tensor):
            return None
        passes.forwards += len(output)
        return _Counted.apply(output, passes) if output.requires_grad else None

    handle = model.register_forward_hook(count) if isinstance(model, nn.Module) else None
    try:
        yield passes
    finally:
        if handle is not None:
            handle.remove()


class _Counted(torch.autograd.Function):
    """The identity, whose backward pass is counted."""

    @staticmethod
    def forward(context: Any, output: Tensor, passes: Passes) -> Tensor:
        context.passes = passes
        return output.view_as(output)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Any:
        context.passes.backwards += len(slopes[0])
        return slopes[0], None
