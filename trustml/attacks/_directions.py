"""Random directions in bulk: slices of one table of normal numbers, where each sample looks.

Drawing normal numbers would cost more than asking a small model about them. Two slices share
entries only where they overlap, and then shifted, so directions are as good as independent; the
same table serves every run, and the seed decides where it is read (Salimans et al. 2017,
arXiv:1703.03864, §2.1).
"""

from functools import lru_cache

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.randomness import keyed

_LEAST = 1 << 20


class Directions:
    """Unit vectors of D entries in float32, read from the table of a device."""

    def __init__(self, entries: int, device: torch.device) -> None:
        """Cut the table into every run of so many entries."""
        length = _LEAST
        while length < 4 * entries:
            length *= 2
        table = _table(length, device)
        self.places = length - entries + 1
        self._slices = table.as_strided((self.places, entries), (1, 1))
        self._sizes = _sizes(length, entries, device)

    def draw(self, random: Random, count: int, purpose: str, step: int = 0) -> Tensor:
        """Return the places (B, count) of as many directions a sample."""
        return random.integers(self.places, (count,), purpose, step)

    def at(self, places: Tensor) -> Tensor:
        """Return the unit vectors (B, D) at places (B,)."""
        return self._slices[places] / self._sizes[places][:, None]


@lru_cache(maxsize=4)
def _table(length: int, device: torch.device) -> Tensor:
    return keyed(0, torch.zeros(1, dtype=torch.int64)).normal((length,), "directions")[0].to(device)


@lru_cache(maxsize=4)
def _sizes(length: int, entries: int, device: torch.device) -> Tensor:
    """Return the norm of each slice."""
    total = torch.nn.functional.pad(_table(length, device).double().square().cumsum(0), (1, 0))
    return (total[entries:] - total[:-entries]).sqrt().float()
