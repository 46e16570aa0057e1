"""Gaussian noise: low light."""

from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

DEVIATION = (0.04, 0.06, 0.08, 0.09, 0.10)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def gaussian_noise(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x plus normal noise, the same in mean wherever it is not cut.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    return x + DEVIATION[severity - 1] * random.normal(tuple(x.shape[1:]), "gaussian_noise").to(x)
