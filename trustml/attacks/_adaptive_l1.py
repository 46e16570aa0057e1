"""APGD's walk for L1: sparse steps whose support follows the best point's, in shrinking balls."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from trustml.attacks._ascent import with_room
from trustml.attacks._pursuit import Best, Loss, Peak, Seen, Walk, pursue, untouched
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier
from trustml.geometry import distance, like, pull

# Croce & Hein 2021: check every 4 % of the steps; a step shrinks by 1.5, at most to a tenth.
_WINDOW, _SHRINK, _LEAST = 0.04, 1.5, 0.1
# The support is settled when it fell by less than 5 %; a step moves 1/1.5 of it, at first of the
# start's, as in the authors' program.
_SETTLED, _SPREAD = 0.95, 1.5
# Wider balls first: how wide, for what share of the steps.
_WIDE = ((3.0, 0.3), (2.0, 0.3))


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Where a walk stands.

    Args:
        point: (B, *S).
        reach: the ball's radius (B,).
        step: length (B,) of a step, from a tenth of `reach` to all of it.
        peak: the highest point so far.
        density: share (B,) of the entries that a step moves.
        support: share (B,) of the peak's entries that differed from x at the last check.
        window: moves from one check to the next.
        since: moves since the last check.
    """

    point: Tensor
    reach: Tensor
    step: Tensor
    peak: Peak
    density: Tensor
    support: Tensor
    window: int
    since: int = 0


W = TypeVar("W", bound=Walk)
W_co = TypeVar("W_co", covariant=True)


class Begin(Protocol[W_co]):
    """Gives a walk of so many steps at the quarry's start, in a ball `factor` times as wide."""

    def __call__(self, quarry: Quarry, /, *, factor: float, steps: int) -> W_co: ...


def sparse_walk(
    model: Classifier, quarry: Quarry, best: Best, /, *, loss: Loss, steps: int
) -> Best:
    """Return the best after one L1-APGD walk for each sample that is not won yet."""
    return through_balls(
        model, quarry, best, loss=loss, steps=steps, begin=begin_sparsely, advance=climb_sparsely
    )


def through_balls(
    model: Classifier,
    quarry: Quarry,
    best: Best,
    /,
    *,
    loss: Loss,
    steps: int,
    begin: Begin[W],
    advance: Callable[[W, Seen, Quarry], W],
) -> Best:
    """Return the best after a walk through balls three times and twice as wide first.

    A sparse start finds its place there. Points of those win nothing.
    """
    shape = tuple(quarry.x.shape[1:])
    best = _at_vertices(model, quarry, best, loss)
    start = quarry.x + quarry.random.normal(shape, "start").to(quarry.x.dtype)
    rest = steps
    for factor, share in _WIDE:
        moves = int(share * steps)
        nothing = untouched(quarry).put(*_won(best))
        wide = replace(quarry, start=start)
        found = pursue(
            model, wide, nothing, loss=loss, steps=moves, wins=False, advance=advance,
            begin=partial(begin, factor=factor, steps=moves),
        )  # fmt: skip
        start, rest = found.point, rest - moves
    return pursue(
        model, replace(quarry, start=start), best, loss=loss, steps=rest, advance=advance,
        begin=partial(begin, factor=1.0, steps=rest),
    )  # fmt: skip


def _at_vertices(model: Classifier, quarry: Quarry, best: Best, loss: Loss) -> Best:
    """Return the best after two greedy moves, which the walks' signs only approach.

    Along a fixed gradient the most is gained by filling the steepest entries up to their walls: the
    Frank-Wolfe vertex of ball and box, exact for a linear model.
    """
    return pursue(
        model, replace(quarry, start=quarry.x), best, loss=loss, steps=2, advance=_to_a_vertex,
        begin=partial(begin_sparsely, factor=1.0, steps=1),
    )  # fmt: skip


def _to_a_vertex(walk: Sparse, seen: Seen, quarry: Quarry) -> Sparse:
    gradient, start, threat = seen.gradient.flatten(1), quarry.x.flatten(1), quarry.threat
    room = torch.where(gradient > 0, threat.high - start, start - threat.low)
    room = torch.where(gradient == 0, 0.0, room)
    order = gradient.abs().argsort(dim=1, descending=True, stable=True)
    taken = room.gather(1, order)
    before = taken.cumsum(1) - taken
    sizes = torch.minimum((walk.reach[:, None] - before).clamp_min(0), taken)
    move = torch.zeros_like(start).scatter_(1, order, sizes).copysign(gradient)
    return replace(walk, point=_allowed(quarry.x + move.view_as(quarry.x), walk.reach, quarry))


def begin_sparsely(quarry: Quarry, factor: float, steps: int) -> Sparse:
    """Return the walk at the quarry's start, pulled into a ball `factor` times as wide."""
    x = quarry.x
    reach = factor * quarry.threat.budget(x).to(x.dtype).expand(len(x), *[1] * (x.dim() - 1))
    reach = reach.flatten().clamp(max=(quarry.threat.high - quarry.threat.low) * x[0].numel())
    assert quarry.start is not None
    point = _allowed(quarry.start, reach, quarry)
    nothing = torch.full_like(reach, -torch.inf)
    support = distance(point, x, "l0").to(reach.dtype) / x[0].numel()
    window = max(int(_WINDOW * steps), 1)
    return Sparse(point, reach, reach, Peak(x, nothing, x), support / _SPREAD, support, window)


def climb_sparsely(walk: Sparse, seen: Seen, quarry: Quarry) -> Sparse:
    """Return the walk one sparse step further, after a check where one is due."""
    walk, back = looked(walk, seen, quarry)
    point, gradient = seen.point, seen.gradient
    if back is not None:
        back = like(back, point)
        point = torch.where(back, walk.peak.point, point)
        gradient = torch.where(back, walk.peak.gradient, gradient)
    return stepped(walk, point, gradient, quarry)


def looked(walk: Sparse, seen: Seen, quarry: Quarry) -> tuple[Sparse, Tensor | None]:
    """Return the walk after a look, and who (B,) goes back to the peak if a check was due."""
    walk = replace(walk, peak=walk.peak.or_higher(seen))
    return _checked(walk, quarry) if walk.since == walk.window else (walk, None)


def stepped(walk: Sparse, point: Tensor, direction: Tensor, quarry: Quarry) -> Sparse:
    """Return the walk one sparse step further from the point, along the direction (B, *S)."""
    step = _sparse_step(with_room(direction, point, quarry), walk.density) * like(walk.step, point)
    return replace(walk, point=_allowed(point + step, walk.reach, quarry), since=walk.since + 1)


def _checked(walk: Sparse, quarry: Quarry) -> tuple[Sparse, Tensor]:
    """Return the walk after a check, and which rows (B,) go back to their peak with a full step."""
    support = distance(walk.peak.point, quarry.x, "l0").to(walk.step.dtype) / quarry.x[0].numel()
    shrunk = support < _SETTLED * walk.support
    step = torch.where(shrunk, walk.reach, (walk.step / _SHRINK).maximum(walk.reach * _LEAST))
    walk = replace(walk, step=step, density=support / _SPREAD, support=support, since=0)
    return walk, shrunk


def _sparse_step(gradient: Tensor, density: Tensor) -> Tensor:
    """Return signs (B, *S) of the share `density` of largest entries, with L1 norm 1."""
    flat = gradient.flatten(1)
    size = flat.abs()
    # Rounded down: a step over all of the peak's support is undone by the projection.
    count = (density * size.shape[1]).long().clamp(1, size.shape[1])
    least = size.sort(dim=1, descending=True).values.gather(1, count[:, None] - 1)
    signs = torch.where(size >= least, flat.sign(), 0.0)
    return (signs / signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)


def _allowed(point: Tensor, reach: Tensor, quarry: Quarry) -> Tensor:
    threat = quarry.threat
    return pull(point, quarry.x, "l1", like(reach, point), (threat.low, threat.high))


def _won(best: Best) -> tuple[Tensor, Best]:
    rows = (best.loss == torch.inf).nonzero()[:, 0]
    return rows, best.at(rows)
