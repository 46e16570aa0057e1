"""Pixelate: a small picture shown large."""

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

SHRUNK = (0.95, 0.9, 0.85, 0.75, 0.65)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def pixelate(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x shrunk, each small pixel the mean of what it covers, and shown at its old size.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: not used: nothing here is random.
    """
    for axis in (2, 3):
        side = x.shape[axis]
        small = max(1, int(side * SHRUNK[severity - 1]))
        edges = torch.arange(small + 1, dtype=torch.float64, device=x.device) * (side / small)
        start = torch.arange(side, dtype=torch.float64, device=x.device)
        covered = torch.minimum(edges[1:, None], start + 1) - torch.maximum(edges[:-1, None], start)
        shrink = (covered.clamp_min(0) * (small / side)).to(x.dtype)
        shown = ((start + 0.5) * small / side).floor().long()
        x = (x.movedim(axis, -1) @ shrink.T)[..., shown].movedim(-1, axis)
    return x
