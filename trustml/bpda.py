"""BPDA: a step without a useful gradient, attacked as if it were one that has it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from trustml.errors import MethodFailed

Step = Callable[[Tensor], Tensor]


def bpda(step: Step, backward: Step | None = None) -> nn.Module:
    """Return the step (B, *S) → (B, *T) as a module whose gradient is that of `backward`.

    What rounds, sorts, compresses, or leaves torch (a JPEG library, numpy) has no gradient, or one
    that is 0, and attacks stand still at it. Athalye, Carlini, Wagner 2018, arXiv:1802.00420: the
    forward pass stays as it is, the backward pass is that of something near that has a gradient.
    For a model of your own:

        class Deployed(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.compress = bpda(through_a_jpeg_file)  # numpy and PIL inside
                self.model = model

            def forward(self, x):
                return self.model(self.compress(x))

    Args:
        step: what the model does; a module among them keeps its weights and its mode.
        backward: what it is taken for on the way back, such as a smooth stand-in; by default the
            identity, for steps that change little and keep the shape.

    Raises:
        MethodFailed: (when it runs) the two differ in shape.
    """
    return _Bpda(step, backward)


class _Bpda(nn.Module):
    def __init__(self, step: Step, backward: Step | None) -> None:
        super().__init__()
        self.step, self.stand_in = step, backward

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            value = self.step(x.detach())
        path = x if self.stand_in is None else self.stand_in(x)
        if value.shape != path.shape:
            other = "its input is" if self.stand_in is None else "backward makes"
            raise MethodFailed(
                f"bpda: the step makes {tuple(value.shape)}, and {other} {tuple(path.shape)}: give "
                f"backward= a function with a gradient that makes the same shape"
            )
        through: Tensor = _Through.apply(value.to(path), path)
        return through


class _Through(Function):
    """The value of the first, to the bit; the gradient goes to the second."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, path: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, gradient
