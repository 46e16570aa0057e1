"""A copy that is not right everywhere, made as like as its units allow: one linear least squares.

In float32 rounding hides kinks and turns normals, so that jumps taken from slopes are wrong by much
more than they must be; answers at ordinary inputs, of which none is a difference, put them right.
"""

from dataclasses import replace

import torch
from torch import Tensor

from trustml.stealing._heights import Heights
from trustml.stealing._units import Units

# Part of the new answers that the fit does not see, so that they judge it.
HELD_OUT = 8
SMALLEST = 1e-7  # singular values below this share of the largest are rounding


def refitted(
    heights: Heights, units: Units, pool: Tensor, count: int, random: torch.Generator
) -> tuple[Units, float, float] | None:
    """Return the units with outer weights, bias and way around fitted to `count` answers.

    Also the median gap at answers that the fit did not see, before and after; None where it does
    not get smaller, or the budget has no room for as many equations as unknowns.

    Raises:
        BudgetSpent: from the victim.
    """
    count = int(min(count, heights.victim.left))
    if count < 1.2 * (len(units.inner) + heights.size + 1) or count < HELD_OUT:
        return None
    points = _points(heights, pool, count, random)
    truth = heights.or_nan(points)
    there = ~truth.isnan().any(1)
    points, truth = points[there], truth[there]
    held = torch.arange(len(points)) % HELD_OUT == 0
    columns = torch.cat([units.before(points).relu(), points, torch.ones(len(points), 1)], 1)
    # What is large is rounded by more.
    weight = 1 / (1 + truth[~held].abs().amax(1, keepdim=True))
    found = torch.linalg.lstsq(
        columns[~held] * weight, truth[~held] * weight, rcond=SMALLEST, driver="gelsd"
    ).solution.T
    width = len(units.inner)
    new = replace(
        units, outer=found[:, :width], around=found[:, width:-1], bias=found[:, -1].contiguous()
    )
    before, after = (
        float((some(points[held]) - truth[held]).abs().amax(1).median()) for some in (units, new)
    )
    return (new, before, after) if after < before else None


def _points(heights: Heights, pool: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Return points (count, D) in the box: the pool's, where there is one, and uniform ones."""
    domain = heights.victim.domain
    spread = torch.rand(count, heights.size, generator=random, dtype=torch.float64)
    points = domain.low + (domain.high - domain.low) * spread
    if len(pool):
        rows = torch.randint(len(pool), (count,), generator=random)
        points[::2] = pool.flatten(1).double()[rows][::2]
    return points
