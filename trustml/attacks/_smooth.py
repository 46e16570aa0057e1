"""Directions of low frequency: where the border of a classifier of images is often nearest."""

import torch
from torch import Tensor

from trustml.attacks._windows import Plane
from trustml.contracts import Random


def smooth(random: Random, plane: Plane, share: float, count: int, when: tuple[str, int]) -> Tensor:
    """Return unit directions (count, B, D) in float64 of the lowest cosine waves of each axis.

    `share` is that of the frequencies that are taken, each with a normal weight.
    """
    rows, columns = (max(round(share * side), 1) for side in (plane.rows, plane.columns))
    weights = random.normal((count, plane.channels, rows, columns), *when).double()
    if share < 1:
        weights = _waves(weights, plane.columns)
        weights = _waves(weights.transpose(3, 4), plane.rows).transpose(3, 4)
    flat = weights.flatten(2)
    return (flat / flat.square().sum(2, keepdim=True).sqrt()).transpose(0, 1)


def _waves(weights: Tensor, length: int) -> Tensor:
    """Return Σ weight · wave (…, length) over the last axis, orthonormal cosines (DCT-II)."""
    place = 2 * torch.arange(length, device=weights.device, dtype=torch.float64) + 1
    total = weights[..., :1] * place.new_full((length,), length**-0.5)
    # One after the other: the same in every batch.
    for number in range(1, weights.shape[-1]):
        wave = torch.cos(place * (number * torch.pi / (2 * length))) * (2 / length) ** 0.5
        total = total + weights[..., number : number + 1] * wave
    return total
