"""Lp balls cut with the box: norms, exact projections and steepest steps, all per sample.

Whatever leaves this file lies inside ball and box exactly: the move is computed in float64 and every
coordinate is rounded towards x, so that no rounding can lengthen it.
"""

import torch
from torch import Tensor

from trustml.contracts import Norm

_NORM_ORDER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}
# A float64 sum of squares over D entries is off by D·2^-53 at most; this covers D up to 10^6.
_SLACK = 1e-10


def distance(candidate: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Return ‖candidate − x‖ (B,) in float64; inputs are (B, *S).

    L0 counts the entries that differ.
    """
    move = (candidate.double() - x.double()).flatten(1)
    return torch.linalg.vector_norm(move, ord=_NORM_ORDER[norm], dim=1)


def diameter(norm: Norm, side: float, entries: int) -> float:
    """Return the longest distance within a box of that side and so many entries."""
    return {
        "linf": side,
        "l2": side * entries**0.5,
        "l1": side * entries,
        "l0": float(entries),
    }[norm]


def like(values: Tensor, x: Tensor) -> Tensor:
    """Return per-sample values (B,) shaped (B, 1, …) so that they broadcast over x (B, *S)."""
    return values.view(-1, *[1] * (x.dim() - 1))


def interval(x: Tensor, epsilon: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Return the Linf ball cut with the box as bounds (B, *S), rounded inwards.

    Every point between the bounds is within epsilon of x in exact arithmetic. x must be in the box.
    """
    wide, far = x.double(), epsilon.double()
    lower = _round_up(wide - far, x.dtype).clamp_(min=low)
    upper = -_round_up(-wide - far, x.dtype).clamp_(min=-high)
    # Rounding in the float64 difference itself can lose the last bit: x always stays allowed.
    return torch.minimum(lower, x), torch.maximum(upper, x)


def project(
    candidate: Tensor, x: Tensor, norm: Norm, epsilon: Tensor, box: tuple[float, float]
) -> Tensor:
    """Return the nearest point (B, *S) to each candidate in the ball around x cut with the box.

    Exact for every norm (for L0: nearest in L2). Candidates already inside come back unchanged.

    Args:
        candidate: (B, *S), finite.
        x: (B, *S) inside the box.
        epsilon: (B, 1, …) or a scalar tensor, ≥ 0.
        box: lowest and highest allowed value.
    """
    low, high = box
    if norm == "linf":
        lower, upper = interval(x, epsilon, low, high)
        return torch.clamp(candidate, lower, upper)
    start, boxed = x.double().flatten(1), candidate.clamp(low, high)
    far = epsilon.double().expand(len(x), *[1] * (x.dim() - 1)).reshape(-1, 1)
    wish = candidate.double().flatten(1) - start
    room = torch.where(wish > 0, high - start, start - low)
    shrink = {"l2": _shrink_l2, "l1": _shrink_l1, "l0": _shrink_l0}[norm]
    move = shrink(wish.abs(), room, far).copysign(wish)
    moved = _round_towards(start + move, start, candidate.dtype).view_as(x)
    inside = distance(boxed, x, norm) <= far[:, 0]
    return torch.where(like(inside, x), boxed, moved)


def pull(
    candidate: Tensor, x: Tensor, norm: Norm, epsilon: Tensor, box: tuple[float, float]
) -> Tensor:
    """Return an allowed point (B, *S) near each candidate, for use inside a search loop.

    Cheap and in the candidate's own precision: Linf and L1 to the nearest point, L2 to the ball and
    then to the box. A hair's breadth inside, so that `project` hardly ever has to move it again.
    """
    low, high = box
    if norm == "l0":
        return project(candidate, x, norm, epsilon, box)
    move = (candidate - x).flatten(1)
    far = epsilon.to(move.dtype).expand(len(x), *[1] * (x.dim() - 1)).reshape(-1, 1)
    if norm == "linf":
        return (x + torch.minimum(torch.maximum(move, -far), far).view_as(x)).clamp(low, high)
    # What rounding x + move can add, at most a thousandth of the radius.
    count = move.shape[1] ** (0.5 if norm == "l2" else 1.0)
    blur = torch.finfo(move.dtype).eps * max(abs(low), abs(high)) * count
    far = far - torch.minimum(far * 1e-6 + blur, far * 1e-3)
    if norm == "l2":
        size = torch.linalg.vector_norm(move, dim=1, keepdim=True)
        move = move * (far / size.clamp_min(torch.finfo(move.dtype).tiny)).clamp(max=1.0)
        return (x + move.view_as(x)).clamp(low, high)
    start = x.flatten(1)
    room = torch.where(move > 0, high - start, start - low)
    size = move.abs()
    threshold = _threshold(size, room, far)
    kept = torch.minimum((size - threshold).clamp_min(0), room)
    kept = kept * (far / kept.sum(1, keepdim=True).clamp_min(torch.finfo(far.dtype).tiny)).clamp(
        max=1.0
    )
    move = kept.copysign(move)
    return (x + move.view_as(x)).clamp(low, high)


def steepest(gradient: Tensor, norm: Norm, share: int = 1) -> Tensor:
    """Return the unit-norm step (B, *S) along which the gradient climbs most; zero where it is zero.

    An L1 (or L0) step is shared equally by the `share` entries with the largest gradient.
    """
    if norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    if norm == "l2":
        size = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        return (flat / size.clamp_min(torch.finfo(flat.dtype).tiny)).view_as(gradient)
    best = flat.abs().topk(share, dim=1).indices
    step = torch.zeros_like(flat).scatter_(1, best, flat.gather(1, best).sign() / share)
    return step.view_as(gradient)


def _shrink_l2(size: Tensor, room: Tensor, far: Tensor) -> Tensor:
    """Return min(s·size, room) with the s ≤ 1 that spends `far`: entries at their room leave the ball."""
    size_bounded = size.clamp_max(1e150)
    scale = (far / torch.linalg.vector_norm(size_bounded, dim=1, keepdim=True)).clamp(max=1.0)
    scale = scale.nan_to_num(1.0)
    # Newton from below: each round finds the entries that hit the box at this scale and gives what
    # they do not use to the others. It ends when no entry joins them.
    for _ in range(size.shape[1]):
        full = scale * size_bounded >= room
        spent = torch.where(full, room, 0.0).square().sum(1, keepdim=True)
        free = torch.where(full, 0.0, size_bounded).square().sum(1, keepdim=True)
        better = ((far.square() - spent).clamp_min(0) / free).sqrt().nan_to_num(1.0).clamp(max=1.0)
        better = torch.maximum(scale, better)
        if torch.equal(better, scale):
            break
        scale = better
    return torch.minimum(scale * size_bounded, room) * (1 - _SLACK)


def _shrink_l1(size: Tensor, room: Tensor, far: Tensor) -> Tensor:
    """Return clamp(size − t, 0, room) with the t ≥ 0 that spends `far` (breakpoints sorted)."""
    # As t falls, entry i begins to move at t = size and stops at t = size − room.
    knots = torch.cat([size, size - room], dim=1)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], dim=1)
    knots, order = knots.sort(dim=1, descending=True)
    moving = slopes.gather(1, order).cumsum(1)
    spent = torch.nn.functional.pad(
        (moving[:, :-1] * (knots[:, :-1] - knots[:, 1:])).cumsum(1), (1, 0)
    )
    # The last knot at which the sum does not yet exceed far, then straight on from there.
    place = (spent <= far).sum(1, keepdim=True).sub(1).clamp_min(0)
    rest = (far - spent.gather(1, place)) / moving.gather(1, place).clamp_min(1)
    threshold = (knots.gather(1, place) - rest).clamp_min(0)
    move = torch.minimum((size - threshold).clamp_min(0), room)
    return move * (far / move.sum(1, keepdim=True)).nan_to_num(1.0).clamp(max=1.0) * (1 - _SLACK)


def _threshold(size: Tensor, room: Tensor, far: Tensor, rounds: int = 12) -> Tensor:
    """Return about the t ≥ 0 (B, 1) at which Σ clamp(size − t, 0, room) is `far`; 0 where it is less.

    Newton's method on the piecewise linear sum, kept between brackets.
    """
    bottom, top = torch.zeros_like(far), size.amax(1, keepdim=True)
    guess = bottom
    for _ in range(rounds):
        move = torch.minimum((size - guess).clamp_min(0), room)
        moving = ((move > 0) & (move < room)).sum(1, keepdim=True)
        excess = move.sum(1, keepdim=True) - far
        bottom = torch.where(excess > 0, guess, bottom)
        top = torch.where(excess <= 0, guess, top)
        newton = guess + excess / moving
        within = (newton > bottom) & (newton < top)
        guess = torch.where(within, newton, (bottom + top) / 2)
    return guess


def _shrink_l0(size: Tensor, room: Tensor, far: Tensor) -> Tensor:
    """Return min(size, room), kept for the ⌊far⌋ entries whose loss would cost most."""
    move = torch.minimum(size, room)
    # Leaving entry i at x costs size², moving it into the box costs (size − move)².
    gain = size.square() - (size - move).square()
    rank = gain.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return torch.where(rank < far, move, 0.0)


def _round_up(value: Tensor, kind: torch.dtype) -> Tensor:
    """Return the smallest number of the type that is not below the float64 value."""
    near = value.to(kind)
    up = torch.nextafter(near, torch.full_like(near, torch.inf))
    return torch.where(near.double() < value, up, near)


def _round_towards(value: Tensor, goal: Tensor, kind: torch.dtype) -> Tensor:
    """Return float64 `value` in the given type, never farther from `goal` than it was."""
    near = value.to(kind)
    too_far = (near.double() - goal).abs() > (value - goal).abs()
    return torch.where(too_far, torch.nextafter(near, goal.to(kind)), near)
