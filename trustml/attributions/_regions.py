"""Which entries stand or fall together: square cells of an image, single entries elsewhere."""

import torch
from torch import Tensor

from trustml.attributions._calling import at_least


def cells(name: str, x: Tensor, cell: int) -> Tensor:
    """Return region numbers 0, 1, … (1, *S) int64: `cell` by `cell` pixels over all channels.

    Inputs that are no images (C, H, W) have each entry for itself.

    Raises:
        BadOption: a cell below 1.
    """
    at_least(name, cell=(cell, 1))
    if x.dim() != 4:
        count = x[0].numel()
        return torch.arange(count, device=x.device).view(1, *x.shape[1:])
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device) // cell
    columns = torch.arange(width, device=x.device) // cell
    number = rows[:, None] * (int(columns[-1]) + 1) + columns[None]
    return number.expand(1, x.shape[1], height, width).contiguous()


def shared_out(maps: Tensor, regions: Tensor) -> Tensor:
    """Return maps (B, *S) with each region's value spread evenly over its entries, so they sum."""
    sizes = torch.bincount(regions.flatten())
    return maps / sizes[regions].to(maps.dtype)
