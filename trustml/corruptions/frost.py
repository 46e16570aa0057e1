"""Frost: ice crystals on the lens."""

from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import landscape
from trustml.registry import corruption

# How much of the picture stays, and of how much ice.
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
TINT = (0.92, 0.97, 1.0)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def frost(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return a dimmer x behind ice.

    The original lays crops of six photographs of ice over the picture. Here the ice is made: ridges
    of a random landscape, with a bluish tint in colour, as bright on average as ice is.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    kept, laid = FROST[severity - 1]
    veins = 1 - (2 * landscape(x, 1.4, random, "veins") - 1).abs()
    ice = 0.35 * landscape(x, 1.7, random, "frost") + 0.65 * veins.square()
    if x.shape[1] == 3:
        ice = ice * x.new_tensor(TINT).view(1, 3, 1, 1)
    return kept * x + laid * ice
