"""What an explanation costs: the model's passes, counted where they happen."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(slots=True)
class Passes:
    """Rows that went through the model so far, forwards and backwards."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counted(model: Any) -> Iterator[Passes]:
    """Yield the count of the model's passes inside the block; copies of it count too.

    The hook stands on the whole model and adds nothing to its graph, so a method sees the module
    that it would see without. Of what is no nn.Module nothing is counted.
    """
    passes = Passes()

    def forward(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            passes.forwards += len(output)
            if output.requires_grad:
                output.register_hook(backward)

    def backward(slope: Tensor) -> None:
        passes.backwards += len(slope)

    handle = model.register_forward_hook(forward) if isinstance(model, nn.Module) else None
    try:
        yield passes
    finally:
        if handle is not None:
            handle.remove()
