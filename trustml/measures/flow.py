"""Flow: each pixel shows what lies a little way off, wherever the nearest of all flows has it from.

A flow (stAdv, Xiao et al. 2018) reads the image, bilinear, at a place of its own for each pixel, at
most epsilon pixels away down or up and to either side (the largest move bounds it, as in Alaifari
et al. 2019); beyond the edge lies what is at the edge. From a picture alone nobody can tell the
flow. But in one channel an image has one just where each pixel's value is among those of the square
around it: values change without jumps from place to place, so that none in between is left out.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trustml.contracts import Random
from trustml.errors import NotApplicable
from trustml.measures._images import Box, check_images, one_each

USUAL = 0.5
# How far an entry may be from what lies around, in sides of the box: libraries round differently.
TOLERANCE = 1e-6
_ROUNDS = 30
Range = tuple[Tensor, Tensor]


def check(x: Tensor) -> None:
    """Check that it can be told of such inputs whether a flow made them.

    Raises:
        NotApplicable: the inputs are no images, or have several channels.
    """
    check_images("flow", x)
    if x.shape[1] != 1:
        raise NotApplicable(
            f"flow takes images of one channel; these have {x.shape[1]}, whose colours one flow "
            "would have to move alike: spatial (one turn and shift), colour and structure take them"
        )


def distance(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the largest move (B,) of the flow that has the least one, in pixels.

    Infinite where a pixel shows what is nowhere in the image.
    """
    wish, slack = candidate.double(), TOLERANCE * (box[1] - box[0])
    far = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for size in range(max(x.shape[2:])):
        rows = far.isinf().nonzero()[:, 0]
        if not len(rows):
            break
        held = _within(wish[rows], _around(x[rows], size, 0.0), slack)
        far[rows[held]] = float(size)
    rows = ((far > 0) & far.isfinite()).nonzero()[:, 0]
    most, own = far[rows], one_each(epsilon, x)[rows]
    least = most - 1
    for turn in range(_ROUNDS if len(rows) else 0):
        # Epsilon first, so that what was made within it is never told to be a hair beyond.
        middle = own.clamp(least, most) if turn == 0 else (least + most) / 2
        held = _within(wish[rows], reachable(x[rows], middle), slack)
        least, most = middle.where(~held, least), middle.where(held, most)
    return far.index_copy(0, rows, most)


def project(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the nearest image to each candidate that a flow can make, in every norm."""
    low, high = reachable(x, one_each(epsilon, x))
    return candidate.double().clamp(low, high).to(x.dtype)


def drawn(x: Tensor, epsilon: Tensor, box: Box, random: Random, draw: int) -> Tensor:
    """Return x read at random places."""
    moves = random.uniform((2, *x.shape[2:]), "flow", draw).to(x.device).double() * 2 - 1
    down, across = (one_each(epsilon, x)[:, None, None] * moves[:, axis] for axis in (0, 1))
    return _read(x, down, across).to(x.dtype)


def reachable(x: Tensor, epsilon: Tensor) -> Range:
    """Return the least and the largest value (B, 1, H, W) within epsilon (B,) pixels of each pixel.

    In float64.
    """
    # Farther than the image is wide nothing is new.
    epsilon = epsilon.clamp(max=float(max(x.shape[2:])))
    low, high, whole = x.double(), x.double(), epsilon.floor()
    for size in whole.unique().tolist():
        rows = (whole == size).nonzero()[:, 0]
        found = _around(x[rows], int(size), epsilon[rows] - size)
        low, high = low.index_copy(0, rows, found[0]), high.index_copy(0, rows, found[1])
    return low, high


def _around(x: Tensor, size: int, share: Tensor | float) -> Range:
    """Return the range within `size` pixels and a share (B,) of the next."""
    share = torch.as_tensor(share, dtype=torch.float64, device=x.device).expand(len(x))
    wide = functional.pad(x.double(), [size + 1] * 4, mode="replicate")
    low, high = (_highest(each, size, share[:, None, None, None]) for each in (-wide, wide))
    return -low, high


def _highest(wide: Tensor, size: int, share: Tensor) -> Tensor:
    """Return the largest values, of x with `size` + 1 more pixels on every side.

    Between four pixels a bilinear value is largest in a corner of what is looked at: at a pixel, or
    where the square's edges cross the lines through pixels, or each other.
    """
    above, below = _ends(wide.mT, size, share)
    middle = _most(_along_rows(wide, size, share).mT, size).mT
    edges = (_along_rows(edge.mT, size, share) for edge in (above, below))
    return torch.maximum(middle, torch.maximum(*edges))


def _along_rows(wide: Tensor, size: int, share: Tensor) -> Tensor:
    return torch.maximum(_most(wide, size), torch.maximum(*_ends(wide, size, share)))


def _ends(wide: Tensor, size: int, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return what is at the left end of each row's window, and at the right."""
    last, count = 2 * size + 2, wide.shape[3] - 2 * size - 2
    left = torch.lerp(wide[..., 1 : 1 + count], wide[..., :count], share)
    right = torch.lerp(wide[..., last - 1 : last - 1 + count], wide[..., last:], share)
    return left, right


def _most(wide: Tensor, size: int) -> Tensor:
    """Return the largest pixel in each row's window."""
    return functional.max_pool2d(wide[..., 1:-1], (1, 2 * size + 1), 1)


def _within(wish: Tensor, reach: Range, slack: float) -> Tensor:
    low, high = reach
    return ((wish >= low - slack) & (wish <= high + slack)).flatten(1).all(1)


def _read(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return x (B, C, H, W) read so many pixels (B, H, W) off each, bilinear, in float64."""
    height, width = x.shape[2:]
    rows = torch.arange(height, dtype=torch.float64, device=x.device)[:, None] + down
    columns = torch.arange(width, dtype=torch.float64, device=x.device) + across
    # In the units of grid_sample the first and the last pixel are at -1 and 1.
    places = torch.stack(
        [2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=3
    )
    return functional.grid_sample(x.double(), places, align_corners=True, padding_mode="border")
