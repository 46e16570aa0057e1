"""Inputs made up for queries: noise, smooth noise, moved pictures."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from trustml.contracts import Domain


def uniform(domain: Domain, count: int, random: torch.Generator) -> Tensor:
    """Return (count, *S), each entry uniform in the box."""
    noise = torch.rand(count, *domain.shape, generator=random)
    return domain.low + (domain.high - domain.low) * noise


def smooth(domain: Domain, count: int, random: torch.Generator) -> Tensor:
    """Return (count, *S): for images blotches of many sizes and contrasts, else uniform noise."""
    if len(domain.shape) != 3:
        return uniform(domain, count, random)
    channels, height, width = domain.shape
    pictures = torch.zeros(count, *domain.shape)
    grain = 2
    while grain < 2 * max(height, width):
        coarse = torch.randn(
            count, channels, min(grain, height), min(grain, width), generator=random
        )
        fine = interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
        pictures += fine * torch.rand(count, 1, 1, 1, generator=random)
        grain *= 2
    # A blank background as often as not, as pictures have.
    pictures = pictures * 2 + torch.randn(count, 1, 1, 1, generator=random)
    return domain.low + (domain.high - domain.low) * pictures.sigmoid()


def shifted(domain: Domain, pool: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Return (count, *S): pool inputs moved by up to an eighth, brightness changed, noise added."""
    rows = torch.randint(len(pool), (count,), generator=random)
    x = pool[rows].clone()
    if len(domain.shape) == 3:
        for axis in (2, 3):
            far = max(1, domain.shape[axis - 1] // 8)
            ways = torch.randint(-far, far + 1, (count,), generator=random)
            for way in ways.unique():
                x[ways == way] = x[ways == way].roll(int(way), axis)
    each = (count, *[1] * len(domain.shape))
    side = domain.high - domain.low
    x = domain.low + (x - domain.low) * (0.7 + 0.6 * torch.rand(each, generator=random))
    x = x + 0.05 * side * torch.randn(x.shape, generator=random)
    return x.clamp(domain.low, domain.high)
