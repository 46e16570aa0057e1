"""Units that a copy lacks: found between a point where it is right and one where it is wrong.

What victim and copy differ by is again piecewise affine; it is zero around the right point, so
along the way to the wrong one it bends just where a missing unit turns on.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from trustml.stealing._bends import TOLERANCE, Line, find_bends
from trustml.stealing._heights import Heights
from trustml.stealing._normals import Beside, find_normals
from trustml.stealing._units import Units, put_together

# Relative gaps that matter to nobody, and are not looked into.
SLACK = {torch.float32: 3e-5, torch.float64: 1e-7}
# Relative gaps that nothing excuses.
LARGEST = 1e-3
# Points in a box stay this share of the way to its centre off the wall: steps need room.
WALL = 0.01
# Free inputs are checked this many box sides around the box too.
AROUND = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The largest gap between victim and copy, what rounding explains, and whether all is well.

    `good` and `bad` are a point where the copy is right, and the one where it is most wrong.
    """

    gap: float
    allowed: float
    right: bool
    good: Tensor | None = None
    bad: Tensor | None = None


def check(
    heights: Heights, units: Units, pool: Tensor, count: int, random: torch.Generator
) -> Check:
    """Compare the copy with the victim at `count` points: of the pool, in the box, around it.

    Raises:
        BudgetSpent: from the victim.
    """
    points = _points(heights, pool, count, random)
    truth = heights.or_nan(points)
    there = ~truth.isnan().any(1)
    points, truth = points[there], truth[there]
    if not len(points):
        return Check(inf, inf, False)
    gaps = (units(points) - truth).abs().amax(1)
    allowed = _allowed(heights, units, points, truth)
    # Whatever doubt would explain: a copy that is so far off is not right.
    allowed = torch.minimum(allowed, LARGEST * (1 + truth.abs().amax(1)))
    wrong = gaps > allowed
    worst = int((gaps / allowed).argmax())
    good = points[~wrong][0] if bool((~wrong).any()) else None
    return Check(
        float(gaps.max()), float(allowed[gaps.argmax()]), not wrong.any(), good, points[worst]
    )


def _allowed(heights: Heights, units: Units, points: Tensor, truth: Tensor) -> Tensor:
    """Return how far off (N,) a copy that lacks nothing may be."""
    least = SLACK[heights.victim.dtype] * (1 + truth.abs().amax(1))
    return least + TOLERANCE * heights.noise(truth) + units.error(points)


def _points(heights: Heights, pool: Tensor, count: int, random: torch.Generator) -> Tensor:
    domain = heights.victim.domain
    side, size = domain.high - domain.low, (count, heights.size)
    points = domain.low + side * torch.rand(size, generator=random, dtype=torch.float64)
    if heights.victim.terms.inputs == "free":
        far = torch.randn(size, generator=random, dtype=torch.float64)
        points[1::3] = (domain.low + side / 2 + AROUND * side * far)[1::3]
    if len(pool):
        rows = torch.randint(len(pool), (count,), generator=random)
        points[::2] = pool.flatten(1).double()[rows][::2]
    if heights.victim.terms.inputs != "free":
        points = points + WALL * (domain.low + side / 2 - points)
    return points


def find_missing(
    heights: Heights, units: Units, good: Tensor, bad: Tensor, random: torch.Generator
) -> Units | None:
    """Return the units with those that turn on between `good` and `bad`; None if there are none.

    Raises:
        BudgetSpent: from the victim.
    """
    length, exact = float((bad - good).norm()), heights.precision
    direction = (bad - good) / length
    ends = torch.stack([good, bad])
    blur = float(_allowed(heights, units, ends, units(ends)).max()) / TOLERANCE

    def rest(points: Tensor) -> Tensor:
        return heights(points) - units(points)

    bends = find_bends(
        Line(
            lambda t: rest((good + t * direction)[None])[0],
            lambda _: blur,
            0.0,
            length,
            length,
            exact.step,
        )
    )
    if not len(bends.places):
        return None
    domain, terms = heights.victim.domain, heights.victim.terms

    def room(point: Tensor, directions: Tensor) -> Tensor:
        if terms.inputs == "free":
            return torch.full((len(directions),), inf, dtype=torch.float64)
        wall = torch.where(directions > 0, domain.high - point, domain.low - point)
        return (wall / directions).nan_to_num(nan=inf).amin(dim=1)

    # A short step changes the copy's own error as little as the error's slope: it is no noise.
    noise = float(heights.noise(units(ends)).max())
    beside = Beside(
        rest, lambda answers: torch.full((len(answers),), noise, dtype=torch.float64), room,
        good, direction, 0.0, length, length, exact.spare, exact.caution, exact.enough,
    )  # fmt: skip
    off = torch.zeros(len(bends.places), dtype=torch.bool)
    normals = find_normals(beside, bends, random, off)
    return units.and_(put_together(bends, normals, good, direction))
