"""GeoDA: from the input along the border's normal, which labels around the border show."""

import math
from itertools import count

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle, Trail, begin, bisected, still_on
from trustml.attacks._flights import take
from trustml.attacks._judge import check_counts
from trustml.attacks._smooth import smooth
from trustml.attacks._windows import plane_of
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import distance, like
from trustml.registry import attack

# How often a way is halved; how far from the border labels are read, as a share of the distance;
# how far the normal is followed, likewise.
_BISECTIONS, _RADIUS, _FAR = 12, 0.1, (1.0, 1.5, 3.0)


@attack(
    source="Rahmati et al. 2020, arXiv:2003.06468",
    needs=Access.LABELS,
    norms=("l2", "linf", "l1"),
    minimum_norm=True,
)
def geoda(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 2000,
    evaluations: int = 40,
    lowest: float = 0.5,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest misread points (B, *S) that were met on ways along estimated normals.

    Labels around the point on the border show its normal; where the way from x along that is
    misread, is the next point. In Linf the way is along its signs, in L1 along its steepest entry
    to the wall, then the next. Each normal takes √t times as many labels.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        evaluations: labels read for the first normal.
        lowest: share of the frequencies of each axis that directions are made of.
        stop_inside: go no further with a sample whose nearest point is within epsilon.

    Raises:
        BadOption: a count below 1, or a share that is not in (0, 1].
    """
    check_counts("geoda", queries=queries, evaluations=evaluations)
    if not 0 < lowest <= 1:
        raise BadOption(f"geoda: lowest={lowest} must be above 0 and at most 1")
    plane, goal, norm = plane_of(x.shape[1:]), threat if stop_inside else None, threat.norm
    oracle, result = Oracle(model, y, threat, queries), x.clone()
    with frozen(model), torch.no_grad():
        trail = begin(oracle, x, threat, random)
        trail = take(trail, still_on(trail, goal, result, oracle.left[trail.rows] < _BISECTIONS))
        if len(trail.rows):
            near = bisected(oracle, trail.rows, trail.x, trail.point, norm, _BISECTIONS)
            trail = trail.to(near, norm)
        known = torch.zeros_like(trail.x.flatten(1).double())
        for turn in count(1):
            looks = round(evaluations * math.sqrt(turn))
            most = looks + len(_FAR) + _BISECTIONS
            left = still_on(trail, goal, result, oracle.left[trail.rows] < most)
            if not len(left):
                break
            trail, known = take(trail, left), known[left]
            moves = smooth(random.at(trail.rows), plane, lowest, looks, ("looks", turn))
            known = known + _normal(oracle, trail, moves, threat)
            trail = _onward(oracle, trail, known, threat)
    return threat.project(result, x)


def _normal(oracle: Oracle, trail: Trail, moves: Tensor, threat: Threat) -> Tensor:
    """Return Σ (label − their mean) · direction (B, D); a label is 1 where misread, else −1."""
    radius = _RADIUS * distance(trail.best, trail.x, "l2")
    here = trail.best.double().flatten(1)
    points = (here + moves * radius[:, None]).to(trail.x.dtype).clamp(threat.low, threat.high)
    won = oracle(points.reshape(-1, *trail.x.shape[1:]), trail.rows)
    labels = won.view(len(moves), -1, 1).double() * 2 - 1
    labels = labels - labels.sum(0) / len(moves)
    total = torch.zeros_like(here)
    # One after the other: the same in every batch.
    for label, move in zip(labels, moves, strict=True):
        total += label * move
    return total


def _onward(oracle: Oracle, trail: Trail, normal: Tensor, threat: Threat) -> Trail:
    """Return the trail at the border along the normal from x, where that is misread."""
    far, open_ = trail.best.clone(), torch.arange(len(normal), device=normal.device)
    reach = torch.zeros_like(trail.distance)
    for times in _FAR:
        length = (times * trail.distance)[open_]
        tried = _along(trail.x[open_], normal[open_], length, threat)
        good = oracle(tried, trail.rows[open_])
        far[open_[good]], reach[open_[good]] = tried[good], length[good]
        open_ = open_[~good]
        if not len(open_):
            break
    won = reach > 0
    rows = won.nonzero()[:, 0]
    if len(rows):
        part = take(trail, rows)
        if threat.norm == "l1":
            far[rows] = _halved(oracle, part, normal[rows], reach[rows], threat)
        else:
            far[rows] = bisected(oracle, part.rows, part.x, far[rows], threat.norm, _BISECTIONS)
    return trail.to(torch.where(like(won, far), far, trail.point), threat.norm)


def _along(x: Tensor, normal: Tensor, length: Tensor, threat: Threat) -> Tensor:
    """Return the points (B, *S) of the box as far as `length` (B,) from x along the normals."""
    start = x.double().flatten(1)
    if threat.norm == "l1":
        room = torch.where(normal > 0, threat.high - start, start - threat.low)
        order = normal.abs().argsort(dim=1, descending=True, stable=True)
        room = room.gather(1, order)
        before = room.cumsum(1) - room
        size = torch.minimum((length[:, None] - before).clamp_min(0), room)
        move = torch.zeros_like(start).scatter_(1, order, size) * normal.sign()
    elif threat.norm == "linf":
        move = normal.sign() * length[:, None]
    else:
        size = normal.square().sum(1, keepdim=True).sqrt().clamp_min(1e-300)
        move = normal / size * length[:, None]
    point = (start + move).to(x.dtype).view_as(x)
    return point.clamp(threat.low, threat.high)


def _halved(oracle: Oracle, trail: Trail, normal: Tensor, length: Tensor, threat: Threat) -> Tensor:
    """Return the misread points (B, *S) nearest to x on the ways along the normals."""
    near, held = torch.zeros_like(length), _along(trail.x, normal, length, threat)
    for _ in range(_BISECTIONS):
        middle = (near + length) / 2
        tried = _along(trail.x, normal, middle, threat)
        won = oracle(tried, trail.rows)
        held = torch.where(like(won, held), tried, held)
        near, length = torch.where(won, near, middle), torch.where(won, middle, length)
    return held
