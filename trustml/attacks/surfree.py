"""SurFree: along circles from the border to the input, in planes taken at random."""

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
from trustml.geometry import like
from trustml.registry import attack

# How often the first way is halved, and an arc; the first angle, how it grows after a success and
# falls after a failure; the shares of it that are tried, either way round.
_BISECTIONS, _ARC = 10, 4
_ANGLE, _UP, _DOWN = 0.5, 1.1, 0.9
_SHARES = (1.0, 0.4)


@attack(
    source="Maho, Furon & Le Merrer 2021, arXiv:2011.12807",
    needs=Access.LABELS,
    norms=("l2",),
    minimum_norm=True,
)
def surfree(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 2000,
    lowest: float = 0.5,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest misread points (B, *S) that were met on circles through the border.

    The circle whose diameter is the way to x, in the plane of that way and a random direction:
    each of its points is nearer. A few are tried; from one that is misread the arc is halved.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        lowest: share of the frequencies of each axis that directions are made of.
        stop_inside: go no further with a sample whose nearest point is within epsilon.

    Raises:
        BadOption: no queries, or a share that is not in (0, 1].
    """
    check_counts("surfree", queries=queries)
    if not 0 < lowest <= 1:
        raise BadOption(f"surfree: lowest={lowest} must be above 0 and at most 1")
    plane, goal, turn = plane_of(x.shape[1:]), threat if stop_inside else None, 0
    oracle, result = Oracle(model, y, threat, queries), x.clone()
    most = 2 * len(_SHARES) + _ARC
    with frozen(model), torch.no_grad():
        trail = begin(oracle, x, threat, random)
        trail = take(trail, still_on(trail, goal, result, oracle.left[trail.rows] < _BISECTIONS))
        if len(trail.rows):
            near = bisected(oracle, trail.rows, trail.x, trail.point, "l2", _BISECTIONS)
            trail = trail.to(near, "l2")
        angle = torch.full_like(trail.distance, _ANGLE)
        while len(left := still_on(trail, goal, result, oracle.left[trail.rows] < most)):
            trail, angle = take(trail, left), angle[left]
            way = smooth(random.at(trail.rows), plane, lowest, 1, ("way", turn))[0]
            arc = _Arc(trail, way, threat)
            trail, won = _along(oracle, trail, arc, angle)
            angle = (angle * torch.where(won, _UP, _DOWN)).clamp(1e-3, torch.pi / 2)
            turn += 1
    return threat.project(result, x)


class _Arc:
    """Half circles from points on the border to their inputs, one a sample."""

    def __init__(self, trail: Trail, way: Tensor, threat: Threat) -> None:
        """Take the planes of the ways from x and the directions `way` (B, D)."""
        self._x, self._like, self._threat = trail.x.double().flatten(1), trail.x, threat
        back = trail.point.double().flatten(1) - self._x
        self._size = back.square().sum(1, keepdim=True).sqrt()
        self._outward = back / self._size
        aside = way - (way * self._outward).sum(1, keepdim=True) * self._outward
        self._aside = aside / aside.square().sum(1, keepdim=True).sqrt().clamp_min(1e-300)

    def at(self, angle: Tensor, rows: Tensor) -> Tensor:
        """Return the points (B', *S) of samples `rows` at angles (B',) from the ways out."""
        cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
        bent = self._outward[rows] * cosine + self._aside[rows] * sine
        point = (self._x[rows] + self._size[rows] * cosine * bent).to(self._like.dtype)
        return point.view_as(self._like[rows]).clamp(self._threat.low, self._threat.high)


def _along(oracle: Oracle, trail: Trail, arc: _Arc, angle: Tensor) -> tuple[Trail, Tensor]:
    """Return the trail at the last misread points of the arcs, and who had one (B,)."""
    every = torch.arange(len(angle), device=angle.device)
    won, held, far = torch.zeros_like(every) > 0, torch.zeros_like(angle), angle.clone()
    point = trail.point.clone()
    for share in _SHARES:
        for side in (1.0, -1.0):
            rows = every[~won]
            tried = arc.at(side * share * angle[rows], rows)
            good = oracle(tried, trail.rows[rows]) if len(rows) else won[:0]
            point[rows[good]], won[rows[good]] = tried[good], True
            held[rows[good]], far[rows[good]] = (
                side * share * angle[rows[good]],
                side * torch.pi / 2,
            )
    rows = every[won]
    for _ in range(_ARC if len(rows) else 0):
        middle = (held[rows] + far[rows]) / 2
        tried = arc.at(middle, rows)
        good = oracle(tried, trail.rows[rows])
        point[rows[good]] = tried[good]
        held[rows], far[rows] = (
            torch.where(good, middle, held[rows]),
            torch.where(good, far[rows], middle),
        )
    return trail.to(torch.where(like(won, point), point, trail.point), "l2"), won
