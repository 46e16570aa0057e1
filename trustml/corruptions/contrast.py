"""Contrast: light and dark drawn together."""

from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

KEPT = (0.75, 0.5, 0.4, 0.3, 0.15)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def contrast(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x drawn towards each channel's mean.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: not used: nothing here is random.
    """
    mean = x.mean((2, 3), keepdim=True)
    return mean + KEPT[severity - 1] * (x - mean)
