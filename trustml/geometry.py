"""Lp balls cut with the box: norms, exact projections and steepest steps, all per sample.

What `project` and `interval` return lies inside ball and box exactly: moves are computed in float64
and every coordinate is rounded towards x, so that no rounding can lengthen it. The box's bounds are
those numbers as the tensors' own type holds them.
"""

from functools import lru_cache
from itertools import repeat

import torch
from torch import Tensor

from trustml.contracts import Norm
from trustml.crossings import crossing, level

_NORM_ORDER = {"linf": float("inf"), "l2": 2.0, "l1": 1.0, "l0": 0.0}
# A float64 sum over D entries is off by less than D·2^-53; this covers D up to 10^6.
_SLACK = 1e-10
# Rounds after which the level is known to float64 or float32; more change nothing.
_ROUNDS, _FEW_ROUNDS = 64, 12
# Entries that are worked on at once where float64 copies are made.
_CACHED = 1 << 14


def distance(candidate: Tensor, x: Tensor, norm: Norm) -> Tensor:
    """Return ‖candidate − x‖ (B,) in float64; inputs are (B, *S).

    L0 counts the entries that differ.
    """
    flat, start = candidate.flatten(1), x.flatten(1)
    parts = zip(flat.split(_rows(flat)), start.split(_rows(flat)), strict=True)
    return torch.cat([_length(part.double() - near.double(), norm) for part, near in parts])


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

    Every point between the bounds is within epsilon of x in exact arithmetic; they are a few units
    in the last place from the ball's own. x must be in the box.
    """
    # A hair inside the ball: the rounded sum, off by half a unit in its last place at most, one or
    # two units nearer to x. Infinity less infinity would be no number.
    far = _below(epsilon.clamp(max=2 * (high - low)), x.dtype)
    hair = torch.finfo(x.dtype).eps
    lower, upper = torch.empty_like(x), torch.empty_like(x)
    rows = _rows(x)
    for start, below, above, most in zip(
        x.split(rows), lower.split(rows), upper.split(rows),
        far.split(rows) if far.dim() and len(far) > 1 else repeat(far), strict=False,
    ):  # fmt: skip
        torch.sub(start, most, out=below)
        torch.add(start, most, out=above)
        torch.minimum(below.add_(below.abs().mul_(hair)).clamp_(min=low), start, out=below)
        torch.maximum(above.sub_(above.abs().mul_(hair)).clamp_(max=high), start, out=above)
    return lower, upper


def project(
    candidate: Tensor, x: Tensor, norm: Norm, epsilon: Tensor, box: tuple[float, float]
) -> Tensor:
    """Return the nearest point (B, *S) to each candidate in the ball around x cut with the box.

    Nearest in L2, to about 1e-7 of epsilon, and never outside. Candidates already inside come back
    unchanged.

    Args:
        candidate: (B, *S), finite.
        x: (B, *S) inside the box.
        epsilon: (B, 1, …) or a scalar tensor, ≥ 0.
        box: lowest and highest allowed value.
    """
    low, high = _held(*box, x.dtype)
    boxed, far = candidate.clamp(low, high), _column(epsilon, x, torch.float64)
    rows = (distance(boxed, x, norm) > far[:, 0]).nonzero()[:, 0]
    if not len(rows):
        return boxed
    start, far = x[rows].flatten(1), far[rows]
    if norm == "linf":
        moved = torch.clamp(candidate[rows].flatten(1), *interval(start, far, low, high))
    elif norm == "l0":
        moved = _most_useful(candidate[rows].flatten(1), boxed[rows].flatten(1), start, far)
    else:
        wide = start.double()
        wish = candidate[rows].flatten(1).double() - wide
        room = torch.where(wish > 0, high - wide, wide - low)
        shrink = _shrink_l2 if norm == "l2" else _shrink_l1
        move = shrink(wish.abs(), room, far * (1 - _SLACK)).copysign(wish)
        moved = _round_towards(wide + move, wide, candidate.dtype)
    return boxed.index_copy(0, rows, moved.view(-1, *x.shape[1:]))


def pull(
    candidate: Tensor, x: Tensor, norm: Norm, epsilon: Tensor, box: tuple[float, float]
) -> Tensor:
    """Return an allowed point (B, *S) near each candidate, for use inside a search loop.

    Cheap and in the candidate's own precision: to the nearest point but for rounding, except L2: to
    the ball and then to the box. A hair's breadth inside, so that `project` hardly ever moves it.
    """
    low, high = _held(*box, x.dtype)
    start = x.flatten(1)
    if norm == "l0":
        boxed = candidate.clamp(low, high).flatten(1)
        far = _column(epsilon, x, torch.float64)
        return _most_useful(candidate.flatten(1), boxed, start, far).view_as(x)
    move = candidate.flatten(1) - start
    # No ball is wider than the box; past that, infinity would only make NaN.
    far = _column(epsilon, x, move.dtype).clamp(max=diameter(norm, high - low, move.shape[1]))
    if norm == "linf":
        move = torch.clamp(move, -far, far)
        return (start + move).clamp_(low, high).view_as(x)
    tiny = torch.finfo(move.dtype).tiny
    # What rounding x + move can add, at most a thousandth of the radius.
    count = move.shape[1] ** (0.5 if norm == "l2" else 1.0)
    blur = torch.finfo(move.dtype).eps * max(abs(low), abs(high)) * count
    far = far - torch.minimum(far * 1e-6 + blur, far * 1e-3)
    if norm == "l2":
        size = torch.linalg.vector_norm(move, dim=1, keepdim=True)
        move.mul_((far / size.clamp_min_(tiny)).clamp_(max=1.0))
        return move.add_(start).clamp_(low, high).view_as(x)
    # Moves, and how far they go beyond the box.
    both = torch.stack([move, candidate.flatten(1) - candidate.flatten(1).clamp(low, high)], dim=1)
    both.abs_()
    kept = _shrunk(both, level(both, far, _FEW_ROUNDS))
    kept.mul_((far / kept.sum(1, keepdim=True).clamp_min_(tiny)).clamp_(max=1.0))
    return kept.copysign_(move).add_(start).clamp_(low, high).view_as(x)


def steepest(gradient: Tensor, norm: Norm, share: int = 1) -> Tensor:
    """Return the unit-norm step (B, *S) along which the gradient climbs most.

    An L1 (or L0) step is shared equally by the `share` entries with the largest gradient.
    """
    if norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    if norm == "l2":
        # By the largest entry first, so that the squares of a tiny gradient do not vanish.
        flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
        size = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        return (flat / size.clamp_min(torch.finfo(flat.dtype).tiny)).view_as(gradient)
    best = flat.abs().topk(share, dim=1).indices
    step = torch.zeros_like(flat).scatter_(1, best, flat.gather(1, best).sign() / share)
    return step.view_as(gradient)


def _shrink_l2(size: Tensor, room: Tensor, far: Tensor) -> Tensor:
    """Return min(s·size, room) with the s ≤ 1 that spends `far`."""
    # Squares of float32's largest numbers fit, those of float64's do not.
    size = size.clamp_max(1e150)
    square, most, spend = size.square(), room.square(), far.square()
    held = torch.empty_like(size)

    def excess(scale: Tensor) -> Tensor:
        torch.mul(square, scale, out=held)
        return torch.minimum(held, most, out=held).sum(1, keepdim=True) - spend

    # The unboxed answer is a lower bound, for walls only free what others may spend.
    floor = (spend / square.sum(1, keepdim=True)).clamp_(max=1.0)
    scale = crossing(excess, torch.ones_like(far), floor, _ROUNDS)
    free = scale * square < most
    spent = torch.where(free, 0.0, most).sum(1, keepdim=True)
    exact = (spend - spent).clamp_min(0) / torch.where(free, square, 0.0).sum(1, keepdim=True)
    scale = torch.where((exact >= floor) & (exact <= 1), exact, scale)
    move = torch.minimum(scale.sqrt() * size, room)
    return _shortened(move, torch.linalg.vector_norm(move, dim=1, keepdim=True), far)


def _shrink_l1(size: Tensor, room: Tensor, far: Tensor) -> Tensor:
    """Return clamp(size − t, 0, room) with the t ≥ 0 that spends `far`."""
    both = torch.stack([size, (size - room).clamp_(min=0)], dim=1)
    move = torch.minimum((size - level(both, far, _ROUNDS)).clamp_(min=0), room)
    return _shortened(move, move.sum(1, keepdim=True), far)


def _shrunk(both: Tensor, threshold: Tensor) -> Tensor:
    """Return the terms (B, D) of sizes and what they have over (B, 2, D), which is overwritten."""
    size, over = both.sub_(threshold[:, :, None]).clamp_(min=0).unbind(1)
    return size - over


def _shortened(move: Tensor, length: Tensor, far: Tensor) -> Tensor:
    """Return moves (B, D) of these lengths (B, 1), scaled down to `far` if longer."""
    return move * (far / length.clamp_min(torch.finfo(far.dtype).tiny)).clamp(max=1.0)


def _most_useful(wish: Tensor, boxed: Tensor, start: Tensor, far: Tensor) -> Tensor:
    """Return start (B, D) with the ⌊far⌋ entries of `boxed` that bring it nearest to `wish`."""
    # Leaving an entry at x costs (wish − x)², moving it into the box costs (wish − boxed)².
    gain = ((boxed - start) * (2 * wish - boxed - start)).float()
    # Ties go to the first entry: a key holds the gain's bits (they order as it does) and the place.
    place = torch.arange(gain.shape[1] - 1, -1, -1, device=gain.device)
    key = (gain.clamp_min(0).view(torch.int32).long() << 32) | place
    # On a GPU the widest ball is not looked up: that would wait for the device.
    most = gain.shape[1] if gain.is_cuda else int(far.max().clamp(max=gain.shape[1]))
    chosen = key.topk(most, dim=1).indices
    rank = torch.arange(1, most + 1, device=gain.device)
    kept = torch.zeros_like(gain, dtype=torch.bool).scatter_(1, chosen, rank <= far)
    return torch.where(kept, boxed, start)


def _column(epsilon: Tensor, x: Tensor, kind: torch.dtype) -> Tensor:
    """Return epsilon as (B, 1) in the given type."""
    return epsilon.to(kind).expand(len(x), *[1] * (x.dim() - 1)).reshape(-1, 1)


@lru_cache
def _held(low: float, high: float, kind: torch.dtype) -> tuple[float, float]:
    """Return the bounds as the type holds them."""
    return tuple(torch.tensor([low, high]).to(kind).tolist())


def _step(value: Tensor, towards: float) -> Tensor:
    return torch.nextafter(value, torch.full_like(value, towards))


def _below(value: Tensor, kind: torch.dtype) -> Tensor:
    """Return the largest numbers of the type that are no larger than float64 `value`."""
    near = value.to(kind)
    return torch.where(near.double() > value, _step(near, -torch.inf), near)


def _rows(x: Tensor) -> int:
    """Return how many rows are worked on at once: a CPU keeps copies of so many in its cache."""
    if x.device.type != "cpu":
        return max(len(x), 1)
    return max(_CACHED // max(x[:1].numel(), 1), 1)


def _length(move: Tensor, norm: Norm) -> Tensor:
    """Return ‖move‖ (B,); of Linf the quicker way to it."""
    if norm == "linf" and move.shape[1]:
        return move.abs().amax(1)
    return torch.linalg.vector_norm(move, ord=_NORM_ORDER[norm], dim=1)


def _round_towards(value: Tensor, goal: Tensor, kind: torch.dtype) -> Tensor:
    """Return float64 `value` in the given type, never farther from `goal` than it was."""
    near = value.to(kind)
    too_far = (near.double() - goal).abs() > (value - goal).abs()
    return torch.where(too_far, torch.nextafter(near, goal.to(kind)), near)
