"""Moves along a border: nearer to the input, onto a plane, within box and trust region.

The programme of Brendel et al. 2019, equation 1: least ‖home − move‖ in the threat's norm, such
that slope · move = gap, ‖move‖₂ ≤ radius and the point stays in the box. What a Lagrangian of it
lets each entry do depends on two numbers: how much nearness counts, found by halving, and how much
the plane does, found by Newton steps. All sums are in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.contracts import Norm

# How near to the plane is on it, as a share of the gap; tries of how much the plane counts; how
# much nearness does, in turn, and the most of that in sides of the box.
_CLOSE, _TRIES, _MOST = 0.05, 8, 20.0
_LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Programme:
    """What moves (B, D) are to do, in float64.

    Args:
        home: the way back to the input.
        slope: the plane's normal.
        gap: (B,) what slope · move shall be, or a little more where it cannot be met exactly.
        low: moves (B, D) to the lower walls; `high` to the upper ones.
        radius: (B,) of the trust region.
        nearer: (B,) whether they shall lead nearer to the input, not just onto the plane.
        norm: in which the point shall come near to the input.
    """

    home: Tensor
    slope: Tensor
    gap: Tensor
    low: Tensor
    high: Tensor
    radius: Tensor
    nearer: Tensor
    norm: Norm


# (how much nearness counts (B, 1), how much the plane (B, 1)) → moves, and which entries would go
# on if the plane counted more.
Rule = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def nearer_on_border(wanted: Programme) -> Tensor:
    """Return the moves (B, D); as far as the radius lets them where the plane is farther away."""
    rule, none = _RULES[wanted.norm](wanted), torch.zeros_like(wanted.gap)[:, None]
    shortest, press, _ = _onto_plane(wanted, rule, none, none)
    far = _length(shortest)[:, None]
    radius = wanted.radius[:, None]
    best = over = shortest
    open_ = able = wanted.nearer[:, None] & (far <= radius)
    for level in _LEVELS:
        move, pressed, there = _onto_plane(wanted, rule, none + level, press)
        fits = there & (_length(move)[:, None] <= radius)
        over = torch.where(open_ & there & ~fits, move, over)
        # L0 jumps: a level that does not fit may be followed by one that does.
        open_ = (able if wanted.norm == "l0" else open_) & fits
        best, over = torch.where(open_, move, best), torch.where(open_, move, over)
        press = torch.where(open_, pressed, press)
        if wanted.norm != "l0" and not bool(open_.any()):
            break
    if wanted.norm != "l0":
        best = _as_far_as(best, over, radius)
    return torch.where(far <= radius, best, shortest * (radius / far.clamp_min(1e-300)))


def _as_far_as(best: Tensor, over: Tensor, radius: Tensor) -> Tensor:
    """Return the points between `best` and `over`, all on the plane, that are at the radius.

    What is nearer at one end, is nearer all the way there.
    """
    way = over - best
    square = way.square().sum(1, keepdim=True)
    half = (best * way).sum(1, keepdim=True)
    room = (radius.square() - best.square().sum(1, keepdim=True)).clamp_min(0)
    share = ((half.square() + square * room).sqrt() - half) / square
    return best + share.nan_to_num(0.0, 0.0, 0.0).clamp(0, 1) * way


def _onto_plane(
    wanted: Programme, rule: Rule, level: Tensor, press: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rule's moves at this level that reach the plane, how much that counts, if they do.

    slope · move only grows with `press`: Newton steps in a bracket, which is halved where they
    leave it.
    """
    slope, gap = wanted.slope, wanted.gap[:, None]
    least, most = torch.full_like(press, -torch.inf), torch.full_like(press, torch.inf)
    step = _count(wanted, level) + gap.abs()
    for _ in range(_TRIES):
        move, moving = rule(level, press)
        climbed = (slope * move).sum(1, keepdim=True)
        beyond = climbed >= gap
        most, least = torch.where(beyond, press, most), torch.where(beyond, least, press)
        gain = torch.where(moving, slope.square(), 0.0).sum(1, keepdim=True)
        guess = press + (gap - climbed) / gain
        closed = least.isfinite() & most.isfinite()
        away = torch.where(beyond, press - step, press + step)
        inside = guess.isfinite() & (guess >= least) & (guess <= most)
        step = torch.where(inside, step, 4 * step)
        press = torch.where(inside, guess, torch.where(closed, (least + most) / 2, away))
    # The last guess is all but exact, but where L0 jumps it must not fall short.
    if wanted.norm == "l0":
        press = torch.where(most.isfinite(), most, press)
    move, _ = rule(level, press)
    lacking = gap - (slope * move).sum(1, keepdim=True)
    far = lacking if wanted.norm == "l0" else lacking.abs()
    return move, press, far <= _CLOSE * gap.abs()


def _l2(wanted: Programme) -> Rule:
    def rule(level: Tensor, press: Tensor) -> tuple[Tensor, Tensor]:
        wish = level * wanted.home + press * wanted.slope
        return _boxed(wish, wanted.low, wanted.high)

    return rule


def _linf(wanted: Programme) -> Rule:
    """The least cube around the input that the move must end in is halved."""
    widest = wanted.home.abs().amax(1, keepdim=True)

    def rule(level: Tensor, press: Tensor) -> tuple[Tensor, Tensor]:
        side = (1 - level) * widest
        low = torch.maximum(wanted.low, wanted.home - side)
        high = torch.minimum(wanted.high, wanted.home + side)
        return _boxed(press * wanted.slope, low, high)

    return rule


def _l1(wanted: Programme) -> Rule:
    """An entry is at home unless the plane pulls it away by more than nearness counts."""

    def rule(level: Tensor, press: Tensor) -> tuple[Tensor, Tensor]:
        wish, count = press * wanted.slope, _count(wanted, level)
        move = torch.minimum(torch.maximum(wanted.home, wish - count), wish + count)
        boxed, free = _boxed(move, wanted.low, wanted.high)
        return boxed, free & (move != wanted.home)

    return rule


def _l0(wanted: Programme) -> Rule:
    """An entry is at home unless what it is farther from its wish costs more than nearness counts.

    No Lagrangian of L0 is exact; its moves step over the plane rather than end before it.
    """

    def rule(level: Tensor, press: Tensor) -> tuple[Tensor, Tensor]:
        wish, count = press * wanted.slope, _count(wanted, level)
        boxed, free = _boxed(wish, wanted.low, wanted.high)
        loss = (wanted.home - wish).square() - (boxed - wish).square()
        back = loss <= count.square()
        return torch.where(back, wanted.home, boxed), free & ~back

    return rule


_RULES: dict[Norm, Callable[[Programme], Rule]] = {
    "l2": _l2, "linf": _linf, "l1": _l1, "l0": _l0,
}  # fmt: skip


def _boxed(wish: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    return torch.clamp(wish, low, high), (wish > low) & (wish < high)


def _count(wanted: Programme, level: Tensor) -> Tensor:
    """Return how much nearness counts, from 0 at level 0 to beyond all moves at level 1."""
    side = (wanted.high - wanted.low).amax(1, keepdim=True)
    return side * level / (1 - level + 1 / _MOST)


def _length(move: Tensor) -> Tensor:
    return move.square().sum(1).sqrt()
