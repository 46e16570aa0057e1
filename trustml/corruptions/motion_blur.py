"""Motion blur: the camera moved."""

from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import dragged, scale
from trustml.registry import corruption

# How long the smear is at most, and its deviation, in pixels of 32.
SMEAR = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def motion_blur(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x smeared in a random direction within 45 degrees of the horizontal.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    radius, sigma = (scale(x) * size for size in SMEAR[severity - 1])
    degrees = random.uniform((), "motion_blur") * 90 - 45
    return dragged(x, radius, sigma, degrees.to(x.device))
