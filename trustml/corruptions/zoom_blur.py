"""Zoom blur: the camera moved towards what it saw."""

from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import zoomed
from trustml.registry import corruption

# How much nearer in the end, in hundredths.
NEARER = (5, 10, 15, 20, 25)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def zoom_blur(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return the mean of x and of x seen nearer and nearer.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: not used: nothing here is random.
    """
    steps = NEARER[severity - 1]
    near = sum(zoomed(x, 1 + step / 100) for step in range(steps + 1))
    return (x + near) / (steps + 2)
