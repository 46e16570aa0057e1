"""Images whose holes are filled with noisy means of their neighbours, as ROAD asks for."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from trustml.benchmarks.explained import generator

# Relative residue in energy; measured on MNIST, no pixel is then off by more than 0.00003.
_SAME = 1e-3
_MOST_ROUNDS = 500
_CHECKED_EVERY = 4


def impute(x: Tensor, holes: Tensor, noise: float, seed: int) -> Tensor:
    """Return images x (N, C, H, W) whose holes (N, 1, H, W) are weighted means of all neighbours.

    A neighbour beside a pixel weighs 1/6, one across a corner 1/12 (Rong et al. 2022,
    arXiv:2202.00449, §4.2). All holes of all images at once, by conjugate gradients from a first
    guess that has the large scales right; `noise` is added in the holes.
    """
    channels = x.shape[1]
    images = x.reshape(-1, 1, *x.shape[2:])
    open_ = holes.repeat_interleave(channels, 0).to(x)
    filled = _solved(images * (1 - open_), open_).view_as(x)
    speckle = noise * torch.randn(x.shape[1:], generator=generator(seed)).to(x)
    return torch.where(holes, filled + speckle, x)


def _solved(known: Tensor, open_: Tensor) -> Tensor:
    """Return the pixels of the holes (N, 1, H, W); elsewhere 0."""
    # A pixel at the edge has fewer neighbours, and its weights sum to less.
    total = _neighbours(torch.ones_like(known[:1]))
    wanted = open_ * _neighbours(known)
    values = open_ * _first_guess(known, 1 - open_)
    residue = wanted - open_ * (total * values - _neighbours(values))
    way = residue / total
    size = (residue * way).sum((2, 3), keepdim=True)
    goal = _SAME**2 * (wanted.square() / total).sum((2, 3), keepdim=True).clamp_min(1e-12)
    for rounds in range(_MOST_ROUNDS):
        if rounds % _CHECKED_EVERY == 0 and bool((size <= goal).all()):
            break
        image = open_ * (total * way - _neighbours(way))
        step = size / (way * image).sum((2, 3), keepdim=True).clamp_min(1e-30)
        values = values + step * way
        residue = residue - step * image
        scaled = residue / total
        before, size = size, (residue * scaled).sum((2, 3), keepdim=True)
        way = scaled + size / before.clamp_min(1e-30) * way
    return values


def _neighbours(values: Tensor) -> Tensor:
    """Return the weighted sum of the eight neighbours: a third of (½, 1, ½) ⊗ (½, 1, ½) less I."""
    wide = pad(values, (1, 1, 1, 1))
    across = wide[..., 1:-1] + 0.5 * (wide[..., :-2] + wide[..., 2:])
    both = across[:, :, 1:-1] + 0.5 * (across[:, :, :-2] + across[:, :, 2:])
    return (both - values) / 3


def _first_guess(known: Tensor, closed: Tensor) -> Tensor:
    """Return for each pixel the mean of what is known near it, at the finest scale that has any."""
    if min(known.shape[2:]) < 2:
        return known.mean((2, 3), keepdim=True) / closed.mean((2, 3), keepdim=True).clamp_min(
            1e-12
        ) + torch.zeros_like(known)  # fmt: skip
    sums, share = (avg_pool2d(part, 2, ceil_mode=True) for part in (known, closed))
    coarse = torch.where(share > 0, sums / share.clamp_min(1e-12), 0.0)
    seen = (share > 0).to(known)
    coarse = torch.where(share > 0, coarse, _first_guess(coarse * seen, seen))
    return interpolate(coarse, known.shape[2:], mode="bilinear", align_corners=False)
