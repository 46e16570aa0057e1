"""Wasserstein: brightness is moved, not made; its way times its amount is at most epsilon of all.

Each channel's brightness above the box's floor is mass, moved from pixel to neighbouring pixel. The
least work, in pixels (city blocks) times mass, over the mass of the image is the distance: W1
between the images, each a measure of total mass 1 (Wong, Schmidt & Kolter 2019).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.errors import MethodFailed
from trustml.measures._images import Box, check_images, in_box, one_each
from trustml.measures._transport import Flow

USUAL = 0.1
# Mass that rounding may make or take away in a channel, for each entry, in sides of the box.
TOLERANCE = 1e-6
# The linear program's answer is known to this share; projections stay as much inside.
GAP = 1e-6
_KEPT = 4096
_ROUNDS = 60


def check(x: Tensor) -> None:
    """Check that the inputs are images.

    Raises:
        NotApplicable: they are not.
    """
    check_images("wasserstein", x)


def distance(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the least work (B,) over the mass; infinite where mass was made or lost.

    By the exact linear program of the flow on the grid, in float64, its dual checked. What rounding
    adds to a channel's mass is taken off its pixels evenly.
    """
    change = candidate.double() - x.double()
    made = change.sum((2, 3)).abs().amax(1)
    allowed = TOLERANCE * (box[1] - box[0]) * x.shape[2] * x.shape[3]
    change = change - change.mean((2, 3), keepdim=True)
    moved = (candidate != x).flatten(1).any(1)
    work = torch.tensor(
        [_work(each) if go else 0.0 for each, go in zip(change, moved, strict=True)]
    )
    share = work.to(change) / mass(x, box)
    return share.nan_to_num(0.0).masked_fill((made > allowed) & moved, torch.inf)


def project(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the image on the way from x to the nearest image of the same mass, as far as allowed.

    The work of a share of a change is that share of its work, so this takes one linear program.
    """
    whole = balanced(candidate, x, box)
    least = distance(whole, x, epsilon, box)
    work = affordable(x, epsilon, box)
    share = (work / (least * mass(x, box)).clamp_min(1e-300)).clamp(max=1.0)
    share = share.where(least > one_each(epsilon, x), torch.ones_like(share))
    # Where mass was made after all: no way there is known to be allowed.
    share = share.where(least.isfinite(), torch.zeros_like(share))[:, None, None, None]
    point = x.double() + share * (whole.double() - x.double())
    # What rounds to x on the way is x: an image without mass, a budget of nothing.
    return in_box(point, x, box).where(share > 0, x)


def drawn(x: Tensor, epsilon: Tensor, box: Box, random: Random, draw: int) -> Tensor:
    """Return x with its brightness moved at random as far as the work allows."""
    wide = x.double()
    channels, height, width = x.shape[1:]
    flow = Flow(
        random.normal((channels, height, width - 1), "right", draw).to(wide),
        random.normal((channels, height - 1, width), "down", draw).to(wide),
    )
    work = affordable(x, epsilon, box)
    # Each edge as much, at random, before the box takes its part.
    scale = work / flow.work().clamp_min(1e-300)
    flow = Flow(*(part * scale.view(-1, 1, 1, 1) for part in (flow.right, flow.down)))
    return in_box(wide + flow.allowed(wide, box).change(), x, box)


def mass(x: Tensor, box: Box) -> Tensor:
    """Return the brightness (B,) above the box's floor, in float64."""
    return (x.double() - box[0]).flatten(1).sum(1)


def affordable(x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return how much work (B,) a change may take, less what rounding its result may add."""
    side = box[1] - box[0]
    rounding = torch.finfo(x.dtype).eps * x[0].numel() * max(abs(box[0]), abs(box[1]), side)
    return ((1 - GAP) * one_each(epsilon, x) * mass(x, box) - rounding).clamp_min(0)


def balanced(candidate: Tensor, x: Tensor, box: Box) -> Tensor:
    """Return the nearest images in the box, in L2, with the mass of x in each channel.

    A constant is added to the channel and the box cuts: found by bisection.
    """
    low, high = (float(value) for value in x.new_tensor(box))
    wish, total = candidate.double(), x.double().sum((2, 3), keepdim=True)
    clamped = wish.clamp(low, high)
    allowed = TOLERANCE / 4 * (high - low) * x.shape[2] * x.shape[3]
    fine = (clamped.sum((2, 3), keepdim=True) - total).abs() <= allowed
    wide = high - low + (wish - clamped).abs().amax((2, 3), keepdim=True)
    least, most = -wide, wide
    for _ in range(_ROUNDS):
        middle = (least + most) / 2
        under = (wish + middle).clamp(low, high).sum((2, 3), keepdim=True) < total
        least, most = middle.where(under, least), most.where(under, middle)
    return clamped.where(fine, (wish + most).clamp(low, high)).to(x.dtype).clamp(low, high)


def _work(change: Tensor) -> float:
    """Return the least work of a change (C, H, W) whose channels sum to 0."""
    return sum(_least_work(each.cpu().numpy().tobytes(), each.shape[1]) for each in change)


@lru_cache(maxsize=_KEPT)  # a projection, its check and its score ask about the same change
def _least_work(content: bytes, width: int) -> float:
    """Return the cost of the cheapest flow with these sources and sinks.

    Raises:
        MethodFailed: the linear program's two bounds do not meet.
    """
    from scipy.optimize import linprog

    change = np.frombuffer(content)
    if not change.any():
        return 0.0
    flows = _incidence(len(change) // width, width)
    # Scaled, so that the solver's absolute tolerances are relative.
    size = np.abs(change).max()
    found = linprog(np.ones(flows.shape[1]), A_eq=flows, b_eq=change / size, method="highs-ds")
    if found.status != 0:
        raise MethodFailed(f"the work between two images could not be found: {found.message}")
    below = float(found.eqlin.marginals @ (change / size))
    if abs(found.fun - below) > GAP / 10 * max(found.fun, 1e-12):
        raise MethodFailed(f"the work between two images lies in [{below}, {found.fun}]")
    return float(found.fun * size)


@lru_cache(maxsize=16)
def _incidence(height: int, width: int) -> Any:
    """Return the matrix (pixels, edges): what a unit along each edge does to each pixel."""
    from scipy.sparse import csc_matrix, hstack

    number = np.arange(height * width).reshape(height, width)
    away = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    to = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    edges = np.arange(len(away))
    values = np.concatenate([-np.ones(len(edges)), np.ones(len(edges))])
    one_way = csc_matrix(
        (values, (np.concatenate([away, to]), np.concatenate([edges, edges]))),
        shape=(height * width, len(edges)),
    )
    return csc_matrix(hstack([one_way, -one_way]))
