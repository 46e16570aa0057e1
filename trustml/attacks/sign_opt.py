"""Sign-OPT: down the distance to the border over directions, by the signs of its slopes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle, Trail, begin, bisected, still_on
from trustml.attacks._directions import Directions
from trustml.attacks._flights import take
from trustml.attacks._judge import check_counts
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.geometry import like
from trustml.registry import attack

# How often a way is halved; how far looks turn; how often a distance of a look is halved, and
# between which shares of the best one.
_BISECTIONS, _TURN, _FINE, _AROUND = 12, 0.1, 6, (0.8, 1.2)
# The first step, how many times as long ones are tried, and what becomes of it after a failure.
_STEP, _TRIES, _SHORTER = 0.5, (2.0, 1.0, 0.5), 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What the steps of a search share."""

    oracle: Oracle
    threat: Threat
    values: bool


@attack(
    source="Cheng et al. 2020, arXiv:1909.10773; values: Cheng et al. 2019, arXiv:1807.04457",
    needs=Access.LABELS,
    norms=("l2",),
    minimum_norm=True,
)
def sign_opt(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 2000,
    looks: int = 50,
    values: bool = False,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest misread points (B, *S) along directions that descend the distance.

    One label tells whether the border is nearer along a direction beside the best.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        looks: directions beside the best that one slope is made of.
        values: measure how much nearer instead, for 6 labels each, as OPT does.
        stop_inside: go no further with a sample whose nearest point is within epsilon.

    Raises:
        BadOption: a count below 1.
    """
    check_counts("sign_opt", queries=queries, looks=looks)
    oracle, result, turn = Oracle(model, y, threat, queries), x.clone(), 0
    search, goal = Search(oracle, threat, values), threat if stop_inside else None
    most = looks * (_FINE if values else 1) + len(_TRIES) + _BISECTIONS
    directions = Directions(x[0].numel(), x.device)
    with frozen(model), torch.no_grad():
        trail = begin(oracle, x, threat, random)
        trail = take(trail, still_on(trail, goal, result, oracle.left[trail.rows] < _BISECTIONS))
        if len(trail.rows):
            near = bisected(oracle, trail.rows, trail.x, trail.point, "l2", _BISECTIONS)
            trail = trail.to(near, "l2")
        step = torch.full_like(trail.distance, _STEP)
        while len(left := still_on(trail, goal, result, oracle.left[trail.rows] < most)):
            trail, step = take(trail, left), step[left]
            places = directions.draw(random.at(trail.rows), looks, "looks", turn)
            slope = _slope(search, trail, directions, places)
            trail, step = _stepped(search, trail, slope, step)
            turn += 1
    return threat.project(result, x)


def _slope(search: Search, trail: Trail, directions: Directions, places: Tensor) -> Tensor:
    """Return Σ (how much nearer the border is) · direction (B, D), of length 1."""
    way = _unit(trail.best.double().flatten(1) - trail.x.double().flatten(1))
    total = torch.zeros_like(way)
    # One after the other: the same in every batch.
    for place in places.unbind(1):
        aside = directions.at(place).double()
        total += _nearer(search, trail, _unit(way + _TURN * aside))[:, None] * aside
    return _unit(total)


def _nearer(search: Search, trail: Trail, way: Tensor) -> Tensor:
    """Return how much nearer the border is along these ways (B, D): 1 or −1, or a share."""
    if not search.values:
        point = _point(trail, way, trail.distance, search.threat)
        return search.oracle(point, trail.rows).double() * 2 - 1
    low, high = (torch.full_like(trail.distance, share) for share in _AROUND)
    for _ in range(_FINE):
        middle = (low + high) / 2
        won = search.oracle(_point(trail, way, middle * trail.distance, search.threat), trail.rows)
        low, high = torch.where(won, low, middle), torch.where(won, middle, high)
    return 1 - high


def _stepped(search: Search, trail: Trail, slope: Tensor, step: Tensor) -> tuple[Trail, Tensor]:
    """Return the trail at the border along the first of some turned ways that is nearer."""
    oracle, won = search.oracle, torch.zeros_like(trail.rows) > 0
    way = _unit(trail.best.double().flatten(1) - trail.x.double().flatten(1))
    far, next_ = trail.best.clone(), _SHORTER * step
    for times in _TRIES:
        rows = (~won).nonzero()[:, 0]
        if not len(rows):
            break
        part = take(trail, rows)
        turned = _unit(way[rows] + (times * step[rows])[:, None] * slope[rows])
        tried = _point(part, turned, part.distance * 0.999, search.threat)
        good = oracle(tried, part.rows)
        far[rows[good]], won[rows[good]] = tried[good], True
        next_[rows[good]] = times * step[rows[good]]
    rows = won.nonzero()[:, 0]
    if len(rows):
        part = take(trail, rows)
        far[rows] = bisected(oracle, part.rows, part.x, far[rows], "l2", _BISECTIONS)
    return trail.to(torch.where(like(won, far), far, trail.point), "l2"), next_


def _point(trail: Trail, way: Tensor, length: Tensor, threat: Threat) -> Tensor:
    """Return the points (B, *S) of the box so far along ways (B, D)."""
    point = trail.x.double().flatten(1) + way * length[:, None]
    return point.to(trail.x.dtype).view_as(trail.x).clamp(threat.low, threat.high)


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors (B, D) with norm 1, or 0 where they are 0."""
    return vectors / vectors.square().sum(1, keepdim=True).sqrt().clamp_min(1e-300)
