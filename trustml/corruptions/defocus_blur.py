"""Defocus blur: a lens out of focus."""

import math

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import filtered, gaussian, scale
from trustml.registry import corruption

# Radius of the disk, and deviation of the bell that smooths its edge, in pixels of 32. On smaller
# pictures they stay as they are: a disk of less than a pixel is no disk.
DISK = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def defocus_blur(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x seen through a disk of light instead of a point.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: not used: nothing here is random.
    """
    radius, edge = (max(scale(x), 1.0) * size for size in DISK[severity - 1])
    reach = math.ceil(radius)
    place = torch.arange(-reach, reach + 1, dtype=torch.float64)
    disk = (place[:, None].square() + place[None].square() <= radius**2).double()
    line = gaussian(edge, max(1, round(2 * edge)))
    return filtered(filtered(filtered(x, disk / disk.sum()), line[None]), line[:, None])
