"""Random maps that belong to an input, whichever batch it stands in."""

import torch
from torch import Tensor

from trustml.randomness import keyed


def noise_like(x: Tensor, seed: int) -> Tensor:
    """Return standard normal numbers like x (B, *S), keyed by each row's bits and the seed."""
    bits = x.detach().float().contiguous().flatten(1).view(torch.int32).long()
    places = torch.arange(bits.shape[1], device=x.device)
    # Odd multipliers of 62 bits: sums wrap, and rows that differ in one entry differ.
    number = ((bits + 1) * ((places * 0x9E3779B97F4A7C1 + 0x2545F491) | 1)).sum(1)
    return keyed(seed, number).normal(tuple(x.shape[1:]), "map").to(x.dtype)
