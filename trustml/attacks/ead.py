"""EAD: shrinking steps on misreading, L1 and squared L2 distance, weighed against each other."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from trustml.attacks._descent import TINY, length, see_margin, side
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import distance, like
from trustml.registry import attack

# What misreading weighs at first is so many times what makes the steepest entry move at all; a
# weight that did not do is so many times as large in the next search.
_FIRST, _HEAVIER = 2.0, 10.0
# A walk weighs L1 by beta / rate: short steps go towards sparse points, longer ones towards the
# least elastic sum.
_RATE = {"l1": 0.01, "elastic": 0.1}


@dataclass(frozen=True, slots=True, eq=False)
class Elastic:
    """Where a search stands.

    Args:
        point: (B, *S) in the box, ahead of `last` (B, *S) by Nesterov's momentum.
        weight: (B,) what misreading weighs; below 0 before the first look.
        least: (B,) the largest weight that failed; `most` the least that did.
        won: (B,) whether a point of this search has won.
        step: looks of this search.
    """

    point: Tensor
    last: Tensor
    weight: Tensor
    least: Tensor
    most: Tensor
    won: Tensor
    step: int = 0


@attack(
    source="Chen et al. 2018, arXiv:1709.04114, algorithm 1 with FISTA",
    needs=Access.GRADIENTS,
    norms=("l1",),
    minimum_norm=True,
)
def ead(  # noqa: PLR0913 - the decision rules are options of one attack
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    searches: int = 9,
    rate: float | None = None,
    beta: float = 0.01,
    rule: Literal["l1", "elastic"] = "l1",
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    Each search begins at the input; the weight of misreading is halved in between, or grows
    tenfold. The first one depends on the slope, so logits may have any scale. By the elastic sum,
    halvings of the way from the input to what is kept follow.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of one search.
        searches: searches for each sample, one after the other.
        rate: the gradient's step as a search begins; it falls to 0. None: 0.01, elastic 0.1.
        beta: what an entry's move is shortened by after each step, in widths of the box.
        rule: which of the winning points is kept: the nearest in L1, or the one with the least
            `beta` · L1 + squared L2, in widths of the box, which may be farther in L1.
        stop_inside: leave a sample alone once a winning point is within the (L1) budget.

    Raises:
        BadOption: a count below 1, a rate or beta not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    first = _RATE[rule] if rate is None else rate
    if min(steps, searches) < 1 or not min(first, beta) > 0:
        raise BadOption(
            f"ead: steps={steps} and searches={searches} must be 1 or more, rate={rate} and "
            f"beta={beta} above 0"
        )

    quarry = Quarry(x, y, threat, random)
    elastic = partial(_least_elastic, beta=beta, stop_inside=stop_inside)
    advance = partial(_advance, steps=steps, rate=first, beta=beta)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=_begin, see=see_margin, advance=advance,
        steps=steps * searches, stop_inside=stop_inside,
        keep=elastic if rule == "elastic" else Nearest.or_nearer,
    )  # fmt: skip
    if rule == "elastic":
        nearest = drawn_in(model, quarry, nearest, stop_inside=stop_inside)
    return answer(nearest, quarry)


def _least_elastic(
    held: Nearest, point: Tensor, reached: Tensor, quarry: Quarry, *, beta: float, stop_inside: bool
) -> Nearest:
    """Return what is held, or the point (B, *S) where that won with a lesser elastic sum.

    With `stop_inside` a point within the budget is better than any outside, and as good as another.
    """
    far, wide = distance(point, quarry.x, "l1"), side(quarry.threat)
    total = beta * far / wide + (distance(point, quarry.x, "l2") / wide).square()
    if stop_inside:
        total = total.masked_fill(far <= quarry.threat.budget(point).flatten(), 0.0)
    before = held.distance if held.measure is None else held.measure
    less = reached & (total < before)
    kept = torch.where(like(less, point), point, held.point)
    distances, totals = torch.where(less, far, held.distance), torch.where(less, total, before)
    return Nearest(kept, distances, far, totals)


def _begin(quarry: Quarry, nearest: Nearest) -> Elastic:
    none = torch.zeros_like(nearest.distance)
    return Elastic(quarry.x, quarry.x, none - 1, none, none + torch.inf, none.bool())


def _advance(
    walk: Elastic,
    seen: Seen,
    quarry: Quarry,
    _: Nearest,
    /,
    *,
    steps: int,
    rate: float,
    beta: float,
) -> Elastic:
    walk = replace(walk, won=walk.won | seen.reached)
    if walk.step == steps - 1:
        return _search_anew(walk, quarry)
    if walk.step == 0:
        walk = _weighed(walk, seen, quarry, rate=rate, beta=beta)
    return _moved(walk, seen, quarry, rate=rate * (1 - walk.step / steps) ** 0.5, beta=beta)


def _weighed(walk: Elastic, seen: Seen, quarry: Quarry, *, rate: float, beta: float) -> Elastic:
    """Return the walk with the weights of a first search, if it has none yet."""
    slope = length(seen.gradient, "linf") * side(quarry.threat)
    first = _FIRST * beta / (rate * slope.clamp_min(TINY))
    return replace(walk, weight=torch.where(walk.weight < 0, first, walk.weight))


def _moved(walk: Elastic, seen: Seen, quarry: Quarry, *, rate: float, beta: float) -> Elastic:
    """Return the walk one step of FISTA further."""
    wide, threat = side(quarry.threat), quarry.threat
    move = (seen.point - quarry.x) / wide
    # Once a point has won there is nothing to be climbed: only the distance pulls.
    weight = like(walk.weight.masked_fill(seen.reached, 0.0).to(move.dtype), move)
    move = move - rate * (2 * move - weight * wide * seen.gradient)
    move = (move.abs() - beta).clamp_min(0).copysign(move)
    reached = (quarry.x + wide * move).clamp(threat.low, threat.high)
    ahead = reached + walk.step / (walk.step + 3) * (reached - walk.last)
    point = ahead.clamp(threat.low, threat.high)
    return replace(walk, point=point, last=reached, step=walk.step + 1)


def _search_anew(walk: Elastic, quarry: Quarry) -> Elastic:
    """Return the walk at the beginning of its next search."""
    most = torch.where(walk.won, torch.minimum(walk.most, walk.weight), walk.most)
    least = torch.where(walk.won, walk.least, torch.maximum(walk.least, walk.weight))
    weight = torch.where(most < torch.inf, (least + most) / 2, walk.weight * _HEAVIER)
    return Elastic(quarry.x, quarry.x, weight, least, most, torch.zeros_like(walk.won))
