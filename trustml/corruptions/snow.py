"""Snow: flakes fall across a paler picture."""

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import dragged, grey, scale, zoomed
from trustml.registry import corruption

# Mean and deviation of the flakes, their size, the least that is one, length and deviation of their
# fall in pixels of 32, and how much of the picture stays.
SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95), (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)  # fmt: skip


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def snow(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x paler, with smeared flakes on it.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    mean, deviation, size, least, length, spread, kept = SNOW[severity - 1]
    lot = random.normal((1, *x.shape[2:]), "snow").to(x)
    flakes = zoomed(mean + deviation * lot, size)
    flakes = flakes.masked_fill(flakes < least, 0.0).clamp(0, 1)
    degrees = (random.uniform((), "fall") * 90 - 135).to(x.device)
    flakes = dragged(flakes, scale(x) * length, scale(x) * spread, degrees)
    pale = kept * x + (1 - kept) * torch.maximum(x, 1.5 * grey(x) + 0.5)
    return pale + flakes + flakes.rot90(2, (2, 3))
