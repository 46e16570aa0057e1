"""Boundary attack: a random walk along the border between the classes, ever nearer to the input."""

from dataclasses import dataclass, replace
from itertools import count

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle, Trail, begin, bisected, still_on
from trustml.attacks._directions import Directions
from trustml.attacks._flights import take
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import distance, like
from trustml.registry import attack

# The way to the first point on the border is halved so often.
_BISECTIONS = 12
# Every so many steps the step aside is asked about by itself.
_EVERY = 5
# Random numbers are drawn for this many steps at once; then, too, whoever is done leaves.
_DRAWN = 10
# How fast shares of success are forgotten, and how a step follows its share out of (low, high).
_FORGET, _GROW = 0.1, 1.5
_ASIDE_SHARES, _NEARER_SHARES = (0.2, 0.5), (0.1, 0.25)


@dataclass(frozen=True, slots=True, eq=False)
class Pace:
    """Steps aside and nearer (B,), as shares of the distance, and how often each succeeds."""

    aside: Tensor
    nearer: Tensor
    aside_share: Tensor
    nearer_share: Tensor


@attack(
    source="Brendel, Rauber & Bethge 2018, arXiv:1712.04248",
    needs=Access.LABELS,
    norms=("l2",),
    minimum_norm=True,
)
def boundary(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    aside: float = 0.1,
    nearer: float = 0.03,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest misread points (B, *S) of random walks along the border.

    Each step goes aside on the sphere around x and then nearer to x; it counts if it ends misread.
    Both lengths follow how often that happens. A sample without a start stays where it is.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        aside: first length of the step along the sphere, as a share of the distance.
        nearer: first length of the step to x, likewise.
        stop_inside: go no further with a sample whose nearest point is within epsilon.

    Raises:
        BadOption: no queries, or a step that is not in (0, 1).
    """
    _check(queries, aside, nearer)
    oracle, result = Oracle(model, y, threat, queries), x.clone()
    directions = Directions(x[0].numel(), x.device)
    goal = threat if stop_inside else None
    with frozen(model), torch.no_grad():
        trail = begin(oracle, x, threat, random)
        spent = oracle.left[trail.rows] < _BISECTIONS
        trail = take(trail, still_on(trail, goal, result, spent))
        if len(trail.rows):
            near = bisected(oracle, trail.rows, trail.x, trail.point, "l2", _BISECTIONS)
            trail = trail.to(near, "l2")
        pace = _first_pace(trail, aside, nearer)
        for turn in count():
            if turn % _DRAWN == 0:
                # Two queries a step at most, and one each _EVERY is the usual.
                spent = oracle.left[trail.rows] < _DRAWN + _DRAWN // _EVERY
                left = still_on(trail, goal, result, spent)
                if not len(left):
                    break
                trail, pace = take(trail, left), take(pace, left)
                places = directions.draw(random.at(trail.rows), _DRAWN, "aside", turn)
            vectors = directions.at(places[:, turn % _DRAWN])
            trail, pace = _step(oracle, trail, pace, vectors, threat, turn)
    return threat.project(result, x)


def _step(
    oracle: Oracle, trail: Trail, pace: Pace, vectors: Tensor, threat: Threat, turn: int
) -> tuple[Trail, Pace]:
    """Return the trail and its pace after one step along `vectors` (B, D), if it ends misread."""
    x, point = trail.x.double().flatten(1), trail.point.double().flatten(1)
    back = point - x
    size = back.square().sum(1, keepdim=True).sqrt()
    outward = back / size
    side = vectors.double()
    side = side - (side * outward).sum(1, keepdim=True) * outward
    side = side / side.square().sum(1, keepdim=True).sqrt().clamp_min(1e-300)
    # Aside by that share of the distance, and back onto the sphere.
    bent = outward + side * pace.aside[:, None]
    bent = bent / (1 + pace.aside.square())[:, None].sqrt()
    around = _boxed(x + size * bent, trail, threat)
    shrunk = x + (around.double().flatten(1) - x) * _shrinkage(around, trail, size, pace)
    ahead = _boxed(shrunk, trail, threat)
    if turn % _EVERY == 0:
        share = _mixed(pace.aside_share, oracle(around, trail.rows))
        pace = replace(pace, aside_share=share)
    won = oracle(ahead, trail.rows)
    pace = _paced(replace(pace, nearer_share=_mixed(pace.nearer_share, won)))
    # The box can push a point outwards, so a misread one is not always a nearer one.
    reach = distance(ahead, trail.x, "l2")
    better = won & (reach < trail.distance)
    return trail.to(torch.where(like(better, ahead), ahead, trail.point), "l2"), pace


def _shrinkage(around: Tensor, trail: Trail, size: Tensor, pace: Pace) -> Tensor:
    """Return which share (B, 1) of the way from x to the points around it the step nearer keeps."""
    reach = distance(around, trail.x, "l2")[:, None]
    return ((1 - pace.nearer[:, None]) * size / reach.clamp_min(1e-300)).clamp(max=1.0)


def _boxed(flat: Tensor, trail: Trail, threat: Threat) -> Tensor:
    return flat.to(trail.x.dtype).view_as(trail.x).clamp(threat.low, threat.high)


def _mixed(share: Tensor, won: Tensor) -> Tensor:
    return (1 - _FORGET) * share + _FORGET * won.to(share.dtype)


def _paced(pace: Pace) -> Pace:
    """Return the pace with steps that grew or shrank where their share of success is out of range.

    A share that has spoken begins again in the middle, so that it does not speak twice.
    """
    low, high = _ASIDE_SHARES
    up, down = pace.aside_share > high, pace.aside_share < low
    factor = torch.where(up, _GROW, torch.where(down, 1 / _GROW, 1.0))
    aside_share = torch.where(up | down, (low + high) / 2, pace.aside_share)
    low, high = _NEARER_SHARES
    up, down = pace.nearer_share > high, pace.nearer_share < low
    nearer_factor = factor * torch.where(up, _GROW, torch.where(down, 1 / _GROW, 1.0))
    nearer_share = torch.where(up | down, (low + high) / 2, pace.nearer_share)
    return Pace(
        (pace.aside * factor).clamp(max=1.0),
        (pace.nearer * nearer_factor).clamp(max=0.5),
        aside_share,
        nearer_share,
    )


def _first_pace(trail: Trail, aside: float, nearer: float) -> Pace:
    one = torch.ones_like(trail.distance)
    shares = (sum(shares) / 2 * one for shares in (_ASIDE_SHARES, _NEARER_SHARES))
    return Pace(aside * one, nearer * one, *shares)


def _check(queries: int, aside: float, nearer: float) -> None:
    if queries < 1:
        raise BadOption(f"boundary: queries={queries} must be 1 or more")
    if not (0 < aside < 1 and 0 < nearer < 1):
        raise BadOption(f"boundary: aside={aside} and nearer={nearer} must be above 0 and below 1")
