"""Impulse noise: dead and hot sensor elements."""

from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

SHARE = (0.01, 0.02, 0.03, 0.05, 0.07)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def impulse_noise(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x with a share of its entries black or white, half of them each.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    shape = tuple(x.shape[1:])
    hit = random.uniform(shape, "impulse_noise").to(x) < SHARE[severity - 1]
    white = (random.uniform(shape, "white").to(x) < 0.5).to(x.dtype)
    return white.where(hit, x)
