"""Ever fewer entries: a search in L2, and again without the entries that matter least to it."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from trustml.access import at
from trustml.attacks._descent import see_margin
from trustml.attacks._nearest import Nearest, at_home
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier
from trustml.geometry import distance, like
from trustml.threats import Lp

# Searches at most, the first among all entries.
_STAGES = 16
# (model, quarry, whether to stop inside) → the nearest.
Search = Callable[[Classifier, Quarry, bool], Nearest]


def shrunk(
    model: Classifier, quarry: Quarry, searches: tuple[Search, Search], stop_inside: bool
) -> Nearest:
    """Return the nearest in L0 after searches among fewer and fewer entries.

    After a search that won half of its entries are left out, those that could give least were the
    margin affine; after one that did not, half as many as before of those that won last.

    Args:
        model: what is asked.
        quarry: the samples.
        searches: the first finds the nearest in L2; the second anything that wins, from the
            quarry's `start`, by moving no entries but those in which that differs from x.
        stop_inside: go no further with a sample whose nearest point is within epsilon; and no
            search goes further than to a point that wins.
    """
    nearest, threat = at_home(model, quarry), quarry.threat
    anywhere = Lp("l2", math.inf, threat.low, threat.high, threat.targeted)
    out = torch.zeros_like(quarry.y)
    for stage in range(_STAGES):
        rows = nearest.open(threat, stop_inside)
        rows = rows if stage == 0 else rows[out[rows] > 0]
        if not len(rows):
            break
        here, held, part = quarry.at(rows), nearest.at(rows), at(model, rows)
        start = _without(part, here, held, out[rows]) if stage else None
        hunted = replace(here, threat=anywhere, start=start)
        found = searches[stage > 0](part, hunted, stop_inside or stage > 0)
        far = distance(found.point, here.x, "l0").masked_fill(found.distance.isinf(), torch.inf)
        won = far < held.distance
        nearest = nearest.put(rows[won], Nearest(found.point[won], far[won]))
        out[rows] = torch.where(won, far.nan_to_num(posinf=0.0).to(out), out[rows]) // 2
    return nearest


def _without(model: Classifier, quarry: Quarry, held: Nearest, out: Tensor) -> Tensor:
    """Return the points (B, *S), so many (B,) entries of each put back to the inputs'."""
    slope, threat = see_margin(model, held, quarry).gradient, quarry.threat
    gain = slope.abs() * torch.where(slope > 0, threat.high - quarry.x, quarry.x - threat.low)
    gain = gain.flatten(1).masked_fill((held.point == quarry.x).flatten(1), torch.inf)
    rank = gain.argsort(dim=1, stable=True).argsort(dim=1, stable=True).view_as(quarry.x)
    return torch.where(rank < like(out, rank), quarry.x, held.point)
