"""What attacks share that see labels only: a counted oracle, a start, and the way to the border."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import at
from trustml.attacks._windows import plane_of
from trustml.contracts import Classifier, Norm, Random, Threat
from trustml.geometry import distance, like
from trustml.threats import check_readable

# Cells a side of coarse noise: each try takes the next of these.
_CELLS = (4, 2, 7, 3, 10, 5)


class Oracle:
    """Says which points are read as the attacker wants, and how often each sample may still ask."""

    def __init__(self, model: Classifier, y: Tensor, threat: Threat, queries: int) -> None:
        """Give each of the samples as many queries."""
        self._model, self._y, self._threat = model, y, threat
        self.left = torch.full_like(y, queries)

    def __call__(self, points: Tensor, rows: Tensor) -> Tensor:
        """Return whether points (k · B, *S) of samples `rows` (B,), k times over, are misread."""
        times = len(points) // len(rows)
        self.left[rows] -= times
        answers, y = at(self._model, rows)(points), self._y[rows].repeat(times)
        check_readable(answers, y)
        return self._threat.reached(answers, y)


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """Samples that still come nearer: `point` (B, *S) is misread, `best` the nearest so far."""

    rows: Tensor
    x: Tensor
    point: Tensor
    best: Tensor
    distance: Tensor

    def to(self, point: Tensor, norm: Norm) -> "Trail":
        """Return the trail at another misread point."""
        reach = distance(point, self.x, norm)
        nearer = reach < self.distance
        best = torch.where(like(nearer, point), point, self.best)
        return replace(self, point=point, best=best, distance=torch.minimum(reach, self.distance))


def begin(oracle: Oracle, x: Tensor, threat: Threat, random: Random, tries: int = 100) -> Trail:
    """Return the trail of the samples for which a misread point was found, at that point.

    Samples that are misread as they are, are on it with distance 0. For a budget of 0 no other
    point is looked for.
    """
    rows = torch.arange(len(x), device=x.device)
    found, closed = oracle(x, rows), (threat.budget(x) == 0).flatten()
    point = x.clone()
    for turn in range(tries):
        rows = (~(found | closed) & (oracle.left > 0)).nonzero()[:, 0]
        if not len(rows):
            break
        tried = _elsewhere(x[rows], threat, random.at(rows), turn)
        won = oracle(tried, rows)
        point[rows[won]] = tried[won]
        found[rows] = won
    rows = found.nonzero()[:, 0]
    x, point = x[rows], point[rows]
    return Trail(rows, x, point, point, distance(point, x, threat.norm))


def still_on(trail: Trail, goal: Threat | None, result: Tensor, spent: Tensor) -> Tensor:
    """Return who (B') still has to come nearer and has not `spent` (B,) all; note the best so far.

    Where there is a goal, whoever is inside its ball is done.
    """
    won = trail.distance == 0
    if goal is not None:
        won = won | (trail.distance <= goal.at(trail.rows).budget(trail.x).flatten())
    result[trail.rows] = trail.best
    return (~(won | spent)).nonzero()[:, 0]


def bisected(
    oracle: Oracle, rows: Tensor, x: Tensor, far: Tensor, norm: Norm, steps: int
) -> Tensor:
    """Return the misread points (B, *S) nearest to x on the ways from x to the misread `far`.

    The way is straight; in Linf it is that of the point of a growing cube nearest to `far`.
    """
    near = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    misread, held = torch.ones_like(near), far
    size = like((far - x).abs().flatten(1).amax(1), x)
    for _ in range(steps):
        middle = (near + misread) / 2
        share = like(middle, x)
        if norm == "linf":
            tried = torch.clamp(far, x - share * size, x + share * size)
        else:
            # Never beyond far, whatever the rounding: so never outside the box.
            tried = torch.clamp(x + share * (far - x), torch.minimum(x, far), torch.maximum(x, far))
        won = oracle(tried, rows)
        held = torch.where(like(won, x), tried, held)
        misread, near = torch.where(won, middle, misread), torch.where(won, near, middle)
    return held


def _elsewhere(x: Tensor, threat: Threat, random: Random, turn: int) -> Tensor:
    """Return points far from x: its negative first, then coarse, plain and binary noise."""
    low, width = threat.low, threat.high - threat.low
    if turn == 0:
        return (threat.low + threat.high - x).clamp(threat.low, threat.high)
    plane = plane_of(x.shape[1:])
    shape = (plane.channels, plane.rows, plane.columns)
    if turn % 3 == 1:
        cells = _CELLS[turn // 3 % len(_CELLS)]
        grid = random.uniform((plane.channels, cells, cells), "start", turn)
        row, column = (
            torch.arange(side, device=x.device) * cells // side
            for side in (plane.rows, plane.columns)
        )
        noise = grid[:, :, row][:, :, :, column]
    else:
        noise = random.uniform(shape, "start", turn)
        noise = noise if turn % 3 == 2 else (noise < 0.5).to(noise.dtype)
    return (low + width * noise.view_as(x).to(x.dtype)).clamp(threat.low, threat.high)
