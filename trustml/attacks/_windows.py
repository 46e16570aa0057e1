"""Windows of an input: entries that an attack changes together, each sample at its own place."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Plane:
    """An input as channels of rows and columns; what is no image is one row of all its entries."""

    channels: int
    rows: int
    columns: int

    @property
    def is_line(self) -> bool:
        """Whether there is but one row, so that a window is a run of entries."""
        return self.rows == 1

    def window(self, area: float) -> tuple[int, int]:
        """Return height and width of the window nearest to a square of `area` entries a channel."""
        if self.is_line:
            return 1, min(max(round(area), 1), self.columns)
        side = max(round(area**0.5), 1)
        return min(side, self.rows), min(side, self.columns)

    def entries(self, window: tuple[int, int], place: Tensor) -> Tensor:
        """Return the flat entries (B, C · height · width) of windows at places (B, 2) in [0, 1)."""
        height, width = window
        # One past the last corner is out of reach even if the product is rounded up.
        row, column = (
            (place[:, axis] * (full - side + 1)).long().clamp_(max=full - side)
            for axis, full, side in ((0, self.rows, height), (1, self.columns, width))
        )
        return (row * self.columns + column)[:, None] + self._offsets(window, place.device)

    def _offsets(self, window: tuple[int, int], device: torch.device) -> Tensor:
        channel, row, column = (
            torch.arange(count, device=device) for count in (self.channels, *window)
        )
        corner = channel[:, None, None] * self.rows + row[:, None]
        return (corner * self.columns + column).flatten()


def plane_of(shape: torch.Size | tuple[int, ...]) -> Plane:
    """Return (C, H, W) and (H, W) as they are, any other shape as one line of its entries."""
    if len(shape) in (2, 3):
        channels, rows, columns = (1, *shape)[-3:]
        return Plane(channels, rows, columns)
    return Plane(1, 1, torch.Size(shape).numel())


def dipole(window: tuple[int, int], across: bool, order: int = 2) -> Tensor:
    """Return a hill above a valley (height, width), or `across`: beside it; of norm 1.

    The update of Andriushchenko et al. 2020, section 3.3, for windows of any shape; for order 1 the
    steeper one of Croce & Hein 2021, its L1 norm being 1.
    """
    height, width = window
    if height * width == 1:
        return torch.ones(1, 1)
    if (across and width > 1) or height == 1:
        return dipole((width, height), False, order).T
    half = height // 2
    both = torch.cat([_hill(half, width, order), -_hill(height - half, width, order)])
    return both / both.norm(order)


def _hill(height: int, width: int, order: int) -> Tensor:
    """Return a pyramid of steps, 1/1² + 1/2² + … from the outermost ring to the middle; norm 1.

    For order 1 the steps are 1/1⁴ + 1/2⁴ + …: most of it stands on few entries.
    """
    row, column = (torch.arange(side) - side // 2 for side in (height, width))
    ring = torch.maximum(row.abs()[:, None], column.abs()[None])
    steps = 1.0 / torch.arange(1, max(height, width) // 2 + 2) ** (2 if order == 2 else 4)
    hill = steps.flip(0).cumsum(0).flip(0)[ring]
    return hill / hill.norm(order)
