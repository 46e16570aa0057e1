"""Fog: a bright, uneven veil."""

from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import landscape
from trustml.registry import corruption

# How much fog, and how smooth it is.
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def fog(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x behind a random landscape of fog, dimmed so that its brightest stays.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    much, fall = FOG[severity - 1]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + much * landscape(x, fall, random, "fog")) * brightest / (brightest + much)
