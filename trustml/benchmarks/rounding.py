"""What an attack found, brought onto the 8-bit grid, and mended where rounding undid it."""

from contextlib import suppress

import torch
from torch import Tensor

from trustml.access import Handed, at, frozen
from trustml.benchmarks.probes import margin
from trustml.contracts import Access, Classifier, Threat
from trustml.errors import BudgetSpent
from trustml.grid import snapped

# Moves that are tried where the nearest step wins no more: all rests outwards, up the slope of the
# margin, and farther the same way.
_FARTHER = (1.25, 2.0)


def rounded(
    model: Handed, candidate: Tensor, pair: tuple[Tensor, Tensor], threat: Threat, *, mend: bool
) -> Tensor:
    """Return the candidates (B, *S) on the grid, in the ball around x.

    Args:
        model: as the attack sees it; at most five passes forward and one back a sample are counted.
        candidate: (B, *S) in the ball.
        pair: x (B, *S) on the grid, and the goals (B,) of the attack.
        threat: the ball, the box and the aim.
        mend: whether to ask the model, and to try other roundings where one does not win.
    """
    x, _ = pair
    best = snapped(candidate, x, threat)
    if not mend or not len(x):
        return best
    with suppress(BudgetSpent):  # the budget bounds the mending too
        _mend(model, candidate, best, pair, threat)
    return best


def _mend(
    model: Handed, candidate: Tensor, best: Tensor, pair: tuple[Tensor, Tensor], threat: Threat
) -> None:
    """Put better points into `best`, row by row where it does not win."""
    (x, goals), rows = pair, torch.arange(len(best), device=best.device)
    rows = rows[~_won(model, best, rows, goals, threat)]
    outwards = (candidate - x).sign()
    for way in ("outwards", "slope", *_FARTHER):
        if not len(rows):
            return
        near, allowed, start = candidate[rows], threat.at(rows), x[rows]
        if way == "slope":
            slope = _slope(model, best[rows], rows, goals[rows], threat.targeted)
            if slope is None:
                continue
            tried = snapped(near, start, allowed, slope)
        elif way == "outwards":
            tried = snapped(near, start, allowed, outwards[rows])
        else:
            tried = allowed.project(start + float(way) * (near - start), start)
            tried = snapped(tried, start, allowed)
        won = _won(model, tried, rows, goals, allowed)
        best[rows[won]] = tried[won]
        rows = rows[~won]


def _won(model: Handed, point: Tensor, rows: Tensor, goals: Tensor, threat: Threat) -> Tensor:
    with torch.no_grad():
        return threat.reached(at(model, rows)(point), goals[rows])


def _slope(
    model: Handed, point: Tensor, rows: Tensor, goals: Tensor, targeted: bool
) -> Tensor | None:
    """Return the slope (B, *S) of what the attacker gains, where the model shows one."""
    if model.access < Access.GRADIENTS:
        return None
    part: Classifier = at(model, rows)
    point = point.detach().requires_grad_()
    with frozen(part), torch.enable_grad():
        lead = margin(part(point), goals).sum()
        if not lead.requires_grad:
            return None
        (slope,) = torch.autograd.grad(lead, point)
    return slope if targeted else -slope
