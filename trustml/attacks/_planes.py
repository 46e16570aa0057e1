"""Planes where two classes tie: which is nearest, and the shortest moves onto it within the box.

To climb Σ slope · move = gap, each entry goes its steep way, no farther than its wall. Which ones
stop at their walls decides how far the others go: found exactly, by sorting, for each sample.
"""

import torch
from torch import Tensor

from trustml.contracts import Norm
from trustml.geometry import like

_FAR = 1e30
_FLAT = 1e-8
# A plane's distance in a norm is its height over its slope in the norm's dual.
_DUAL: dict[Norm, float] = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}


def nearest_rival(
    logits: Tensor, point: Tensor, y: Tensor, rivals: Tensor, norm: Norm
) -> tuple[Tensor, Tensor]:
    """Return the lead over y (B,) of the rival whose plane is nearest, and its slope (B, *S).

    One pass back for each rival; the pass forward that gave the logits serves all of them.

    Args:
        logits: (B, K), with a graph that leads to the points.
        point: (B, *S), a leaf of that graph.
        y: (B,) the classes that are led over.
        rivals: (B, C) classes other than y.
        norm: "linf", "l2" or "l1", in which planes are near.
    """
    leads = logits.gather(1, rivals) - logits.gather(1, y[:, None])
    nearest = leads[:, 0].detach(), torch.zeros_like(point)
    least = torch.full_like(leads[:, 0], torch.inf, dtype=torch.float64)
    for lead in leads.unbind(1):
        (slope,) = torch.autograd.grad(lead.sum(), point, retain_graph=True)
        size = torch.linalg.vector_norm(slope.flatten(1), _DUAL[norm], 1, dtype=torch.float64)
        far = lead.detach().abs().double() / size.clamp_min(_FLAT)
        nearer, least = far < least, torch.minimum(far, least)
        nearest = (
            torch.where(nearer, lead.detach(), nearest[0]),
            torch.where(like(nearer, slope), slope, nearest[1]),
        )
    return nearest


def onto_plane(
    start: Tensor, slope: Tensor, gap: Tensor, norm: Norm, box: tuple[float, float]
) -> Tensor:
    """Return the shortest moves (B, D) from `start` with slope · move = gap that stay in the box.

    Where the box does not reach the plane: the moves that come nearest to it.

    Args:
        start: (B, D) in the box.
        slope: (B, D), the plane's normal.
        gap: (B,) what slope · move shall be, of either sign.
        norm: "linf", "l2" or "l1"; "l0": few entries, all but the last of them to their walls.
        box: lowest and highest allowed value.
    """
    uphill = slope * gap.sign()[:, None]
    room = torch.where(uphill > 0, box[1] - start, start - box[0])
    steep = slope.abs()
    # Only ratios count; without this the squares of tiny gradients would be zero.
    largest = steep.amax(1, keepdim=True).clamp_min(torch.finfo(steep.dtype).tiny)
    steep, height = steep / largest, gap.abs()[:, None] / largest
    if norm in ("l1", "l0"):
        size = _one_by_one(steep, room, height, steep if norm == "l1" else steep * room)
    else:
        size = _together(steep, room, height, torch.ones_like(steep) if norm == "linf" else steep)
    return size * uphill.sign()


def _together(steep: Tensor, room: Tensor, height: Tensor, rate: Tensor) -> Tensor:
    """Return min(t · rate, room) with the t at which Σ steep · size is the height."""
    # Entry i stops at t = room / rate; one that cannot climb never does, and weighs nothing.
    stop, order = (room / rate).nan_to_num(torch.inf).sort(dim=1)
    gain = (steep * rate).gather(1, order)
    full = torch.where(gain > 0, gain * stop, 0.0)
    climbing = gain.flip(1).cumsum(1).flip(1)
    # While entries from k on still move, t is what the others leave over what these gain: the first
    # k whose t comes before its own stop is right.
    level = (height - (full.cumsum(1) - full)) / climbing
    fits = level <= stop
    place = fits.to(torch.uint8).argmax(1, keepdim=True)
    level = level.gather(1, place).masked_fill(~fits.any(1, keepdim=True), _FAR)
    return torch.minimum(rate * level, room)


def _one_by_one(steep: Tensor, room: Tensor, height: Tensor, rank: Tensor) -> Tensor:
    """Return sizes that use up the room of the entries of the highest rank first."""
    order = rank.argsort(dim=1, descending=True, stable=True)
    steep, room = steep.gather(1, order), room.gather(1, order)
    gain = steep * room
    lacking = (height - (gain.cumsum(1) - gain)).clamp_min(0)
    size = torch.minimum(lacking / steep, room).nan_to_num(0.0)
    return torch.zeros_like(size).scatter_(1, order, size)
