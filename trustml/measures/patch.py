"""Patch: what changed lies in one rectangle, which covers at most a share of the image's area."""

from collections.abc import Iterator

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.measures._images import Box, check_images, in_box, one_each

USUAL = 0.05


def check(x: Tensor) -> None:
    """Check that there are patches of such inputs.

    Raises:
        NotApplicable: the inputs are no images.
    """
    check_images("patch", x)


def distance(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the share (B,) of the area that the smallest rectangle around the changes covers."""
    changed = (candidate != x).any(1)
    sides = [_extent(changed.any(axis)) for axis in (1, 2)]
    return sides[0] * sides[1] / (x.shape[2] * x.shape[3])


def project(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return x with the one rectangle of the candidate that brings it nearest, in L2."""
    boxed = in_box(candidate, x, box)
    wide, wish = x.double(), candidate.double()
    gain = ((boxed.double() - wide) * (2 * wish - boxed.double() - wide)).sum(1)
    return boxed.where(best_rectangle(gain, pixels(epsilon, x))[:, None], x)


def drawn(x: Tensor, epsilon: Tensor, box: Box, random: Random, draw: int) -> Tensor:
    """Return x behind a patch of random values, of random shape, at a random place."""
    low, high = box
    value = low + random.uniform(tuple(x.shape[1:]), "patch", draw) * (high - low)
    lot = random.uniform(tuple(x.shape[2:]), "place", draw).double()
    # All of the lot's weight on one pixel: the rectangle holds it, and else lies anywhere.
    spot = lot.flatten(1).argmax(1)
    lot = lot.flatten(1).scatter_add(1, spot[:, None], torch.full_like(lot[:, 0, :1], 1e9))
    where = best_rectangle(lot.view(len(x), *x.shape[2:]), pixels(epsilon, x))
    return in_box(value, x, box).where(where[:, None], x)


def pixels(epsilon: Tensor, x: Tensor) -> Tensor:
    """Return how many pixels (B,) a patch may cover, at most all."""
    count = x.shape[2] * x.shape[3]
    # A hair more, so that 0.29 of 100 pixels are 29.
    return (one_each(epsilon, x) * count + 1e-9).clamp(max=count).floor().long()


def best_rectangle(gain: Tensor, most: Tensor, margin: int = 0) -> Tensor:
    """Return (B, H, W) bool: the rectangle of at most `most` (B,) pixels with the largest sum.

    The gains (B, H, W) are 0 or more, so that no smaller rectangle can be better than the largest
    of its height. Where no pixel is allowed, or none gains, the rectangle is empty.

    Args:
        gain: of each pixel.
        most: pixels allowed.
        margin: rows and columns at each edge that the rectangle must leave free.
    """
    count, height, width = gain.shape
    best, corner = gain.new_zeros(count), gain.new_zeros(count, 4, dtype=torch.long)
    table = gain.new_zeros(count, height + 1, width + 1)
    table[:, 1:, 1:] = gain.cumsum(1).cumsum(2)
    for high, wide, rows in _shapes(most, height - 2 * margin, width - 2 * margin):
        strip = table[rows, high:] - table[rows, : height + 1 - high]
        sums = strip[:, :, wide:] - strip[:, :, : width + 1 - wide]
        sums = sums[:, margin : sums.shape[1] - margin, margin : sums.shape[2] - margin]
        value, place = sums.flatten(1).max(1)
        top, left = place // sums.shape[2] + margin, place % sums.shape[2] + margin
        found = torch.stack([top, top + high, left, left + wide], 1)
        better = value > best[rows]
        corner[rows] = torch.where(better[:, None], found, corner[rows])
        best[rows] = torch.where(better, value, best[rows])
    down = torch.arange(height, device=gain.device)[None, :, None]
    across = torch.arange(width, device=gain.device)[None, None, :]
    top, bottom, left, right = (edge[:, None, None] for edge in corner.unbind(1))
    return (down >= top) & (down < bottom) & (across >= left) & (across < right)


def _shapes(most: Tensor, height: int, width: int) -> Iterator[tuple[int, int, Tensor]]:
    """Yield height, width and rows (B',) of each rectangle that no larger one of its height is."""
    for area in most.unique().tolist():
        rows = (most == area).nonzero()[:, 0]
        for high in range(1, min(height, area) + 1):
            yield high, min(width, area // high), rows


def _extent(used: Tensor) -> Tensor:
    """Return how long (B,) the shortest run is that holds all the True of (B, N)."""
    place = torch.arange(used.shape[1], device=used.device).expand_as(used)
    first = place.masked_fill(~used, used.shape[1]).amin(1)
    last = place.masked_fill(~used, -1).amax(1)
    return (last - first + 1).clamp(min=0).double()
