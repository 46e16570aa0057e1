"""Operations that are not affine, each enclosed by linear functions between bounds of its input.

Sources: Zhang et al. 2018, arXiv:1811.00866 (ReLU); Singh et al. 2018, "Fast and effective
robustness certification" (smooth bends).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# tanh and its like are good to a few units in the last place; this leaves room for eight.
_SMOOTH_TERMS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """x·low_slope + low_offset ≤ f(x) ≤ x·high_slope + high_offset between the bounds of x."""

    low_slope: Tensor
    low_offset: Tensor
    high_slope: Tensor
    high_offset: Tensor


@dataclass(frozen=True, slots=True)
class Hinge:
    """max(x, slope · x): ReLU, or leaky ReLU with a slope in [0, 1]."""

    slope: float

    @property
    def terms(self) -> int:
        """A ReLU rounds nothing; a leaky one rounds its slope and the product."""
        return 2 if self.slope else 0

    def forward(self, x: Tensor) -> Tensor:
        """Return max(x, slope · x)."""
        return torch.maximum(x, self.slope * x)

    def lines(self, lower: Tensor, upper: Tensor) -> Lines:
        """Return the chord above, and below the side that leaves the smaller area (CROWN)."""
        bent = self.bent(lower, upper)
        one = torch.ones_like(lower)
        straight = torch.where(lower >= 0, one, self.slope)
        width = torch.where(bent, upper - lower, 1.0)
        chord = torch.where(bent, (upper - self.slope * lower) / width, straight)
        below = torch.where(bent, torch.where(upper > -lower, one, self.slope), straight)
        rise = torch.where(bent, (1 - chord) * upper, 0.0)
        return Lines(below, torch.zeros_like(below), chord, rise)

    def bent(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return where 0 lies strictly between the bounds."""
        return (lower < 0) & (upper > 0)


@dataclass(frozen=True, slots=True)
class Smooth:
    """A rising function whose slope is least at an end of any interval: tanh, sigmoid, softplus.

    With s the lesser slope of the two ends, f(x) − s·x never falls, so that its values at the ends
    enclose it (Singh et al. 2018, DeepZ).
    """

    forward: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    terms: int = _SMOOTH_TERMS

    def lines(self, lower: Tensor, upper: Tensor) -> Lines:
        """Return parallel lines through f at the lower and at the upper bound."""
        slope = torch.minimum(self.derivative(lower), self.derivative(upper))
        below = self.forward(lower) - slope * lower
        return Lines(slope, below, slope, self.forward(upper) - slope * upper)

    def bent(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return where the bounds differ."""
        return upper > lower


@dataclass(frozen=True, slots=True)
class MaxPool:
    """The largest of each window of an image."""

    shape: tuple[int, ...]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima (P, C, H', W')."""
        return functional.max_pool2d(x, self.kernel, self.stride, self.padding, self.dilation)

    def back(self, weights: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights (P, *shape) and constant (P,): a function never above weights · max.

        A maximum is at least the entry with the highest lower bound; it is that entry where no
        other can pass it, and elsewhere at most the highest upper bound.
        """
        low, high = self._windows(lower), self._windows(upper)
        floor, place = low.max(2, keepdim=True)
        rival = high.scatter(2, place, -torch.inf).amax(2, keepdim=True)
        flat = weights.reshape(*weights.shape[:2], 1, -1)
        linear = torch.where((rival <= floor) | (flat > 0), flat, 0.0)
        constant = torch.where(linear == 0, flat * high.amax(2, keepdim=True), 0.0)
        spread = torch.zeros_like(low).scatter(2, place, linear)
        return self._folded(spread), constant.flatten(1).sum(1)

    def _windows(self, x: Tensor) -> Tensor:
        """Return (P, C, entries of a window, windows); beyond the edge stands minus infinity."""
        rows, columns = self.padding
        padded = functional.pad(x, (columns, columns, rows, rows), value=-torch.inf)
        parts = functional.unfold(
            padded.flatten(0, 1)[:, None], self.kernel, self.dilation, 0, self.stride
        )
        return parts.view(*x.shape[:2], *parts.shape[1:])

    def _folded(self, parts: Tensor) -> Tensor:
        """Return (P, C, H, W), each entry the sum over the windows that hold it."""
        _, height, width = self.shape
        rows, columns = self.padding
        size = (height + 2 * rows, width + 2 * columns)
        whole = functional.fold(
            parts.flatten(0, 1), size, self.kernel, self.dilation, 0, self.stride
        )
        whole = whole.view(*parts.shape[:2], *size)
        return whole[:, :, rows : rows + height, columns : columns + width]


# A non-decreasing function of each entry.
Bend = Hinge | Smooth
BENDS: dict[str, Bend] = {
    "relu": Hinge(0.0),
    "tanh": Smooth(torch.tanh, lambda x: 1 - torch.tanh(x).square()),
    "sigmoid": Smooth(torch.sigmoid, lambda x: torch.sigmoid(x) * torch.sigmoid(-x)),
    # Past 20 torch's softplus is x itself, 2e-9 less: within the room for rounding.
    "softplus": Smooth(functional.softplus, torch.sigmoid),
}
