"""The operations that bounds are known for, in float64, each with what float32 may round away.

An affine operation computes A x + offset. `terms` is how many numbers one output sums at most, its
offset included: however a device orders the sum, float32 errs by no more than γ(terms) times the
sum of the sizes (Higham 2002, "Accuracy and Stability", §3.1).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input


class Affine(Protocol):
    """x → A x + offset, on rows (P, *S)."""

    @property
    def offset(self) -> Tensor | None: ...

    @property
    def terms(self) -> int: ...

    @property
    def offset_size(self) -> Tensor | None:
        """Return the size of what the offset sums, at least its absolute value."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""
        ...

    def spread(self, size: Tensor) -> Tensor:
        """Return |A| size."""
        ...

    def back(self, weights: Tensor) -> Tensor:
        """Return weightsᵀ A: what a linear function of the output is of the input."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """A linear layer: weight (O, I) over the last axis."""

    weight: Tensor
    offset: Tensor | None

    @property
    def terms(self) -> int:
        """Products and the offset."""
        return self.weight.shape[1] + 1

    @property
    def offset_size(self) -> Tensor | None:
        """|offset|."""
        return None if self.offset is None else self.offset.abs()

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ."""
        return x @ self.weight.T

    def spread(self, size: Tensor) -> Tensor:
        """Return size |W|ᵀ."""
        return size @ self.weight.abs().T

    def back(self, weights: Tensor) -> Tensor:
        """Return weights W."""
        return weights @ self.weight


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A convolution of images; `how` holds stride, padding, dilation and groups."""

    weight: Tensor
    bias: Tensor | None
    shape: tuple[int, ...]
    how: tuple[Any, ...]

    @property
    def offset(self) -> Tensor | None:
        """The bias, as it broadcasts over (C, H, W)."""
        return None if self.bias is None else self.bias[:, None, None]

    @property
    def terms(self) -> int:
        """Products and the bias."""
        return self.weight[0].numel() + 1

    @property
    def offset_size(self) -> Tensor | None:
        """|bias|."""
        return None if self.offset is None else self.offset.abs()

    def forward(self, x: Tensor) -> Tensor:
        """Return W ∗ x."""
        return functional.conv2d(x, self.weight, None, *self.how)

    def spread(self, size: Tensor) -> Tensor:
        """Return |W| ∗ size."""
        return functional.conv2d(size, self.weight.abs(), None, *self.how)

    def back(self, weights: Tensor) -> Tensor:
        """Return the transposed convolution."""
        shape = (len(weights), *self.shape)
        return conv2d_input(shape, self.weight, weights, *self.how)


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """x · factor + offset, entry by entry; both broadcast over one input."""

    factor: Tensor
    offset: Tensor | None
    offset_size: Tensor | None
    terms: int = 4

    def forward(self, x: Tensor) -> Tensor:
        """Return x · factor."""
        return x * self.factor

    def spread(self, size: Tensor) -> Tensor:
        """Return size · |factor|."""
        return size * self.factor.abs()

    def back(self, weights: Tensor) -> Tensor:
        """Return weights · factor."""
        return weights * self.factor


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """Means over windows or axes: linear, and no weight is negative."""

    mean: Callable[[Tensor], Tensor]
    shape: tuple[int, ...]
    terms: int
    offset: Tensor | None = None
    offset_size: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the means."""
        return self.mean(x)

    def spread(self, size: Tensor) -> Tensor:
        """Return the means."""
        return self.mean(size)

    def back(self, weights: Tensor) -> Tensor:
        """Return each mean's weight shared out over what it averages."""
        with torch.enable_grad():
            x = weights.new_zeros((len(weights), *self.shape)).requires_grad_()
            (shared,) = torch.autograd.grad(self.mean(x), x, weights)
        return shared


@dataclass(frozen=True, slots=True, eq=False)
class Reshape:
    """The same numbers in another shape."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    terms: int = 0
    offset: Tensor | None = None
    offset_size: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x (P, *after)."""
        return x.reshape(len(x), *self.after)

    def spread(self, size: Tensor) -> Tensor:
        """Return size (P, *after)."""
        return size.reshape(len(size), *self.after)

    def back(self, weights: Tensor) -> Tensor:
        """Return weights (P, *before)."""
        return weights.reshape(len(weights), *self.before)


@dataclass(frozen=True, slots=True)
class Sum:
    """first + sign · second: where two branches meet."""

    sign: int
    terms: int = 1


def rounding(terms: int, unit: float) -> float:
    """Return γ(terms): the relative error of a sum of `terms` rounded products, in any order."""
    return terms * unit / (1 - terms * unit) if terms * unit < 0.5 else math.inf
