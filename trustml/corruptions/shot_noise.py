"""Shot noise: light comes in quanta."""

import math

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.registry import corruption

QUANTA = (500, 250, 100, 75, 50)


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def shot_noise(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return a Poisson count of each entry's quanta, over the quanta of full brightness.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    quanta = QUANTA[severity - 1]
    rate = x.double() * quanta
    lot = random.uniform(tuple(x.shape[1:]), "shot_noise").to(x.device).double()
    count = torch.zeros_like(rate)
    chance = torch.exp(-rate)
    below = chance.clone()
    # Inversion: the number of k with P(at most k) ≤ lot. Past the last k nobody comes.
    for k in range(1, quanta + 12 * math.isqrt(quanta)):
        count += lot >= below
        chance *= rate / k
        below += chance
    return (count / quanta).to(x.dtype)
