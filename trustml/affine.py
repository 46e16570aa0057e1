"""Exact robustness of affine classifiers within the box: the truth that attacks are held against.

The answer to x is the arg max of weight @ x + bias. To make class j pass class y is to cross one
half-space; the cheapest crossing within the box fills entries up to a common level (Linf, L2) or
one after the other (L1, L0). All in float64, exact up to its rounding.
"""

import torch
from torch import Tensor

from trustml.access import at
from trustml.contracts import Classifier, Norm

# Relative to the terms that a logit sums: float32 rounds to 6e-8 of each.
_SAME = 1e-5


def affine_map(model: Classifier, x: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,), float64, as the slopes at the mean of x (B, *S) say.

    They are the model's only if it is affine: hold them against answers with `agrees`.
    """
    middle = x.detach().mean(0, keepdim=True)
    points = middle.expand(classes, *x.shape[1:]).clone().requires_grad_()
    rows = torch.arange(classes, device=x.device) % len(x)
    with torch.enable_grad():
        logits = at(model, rows)(points)
        (slopes,) = torch.autograd.grad(logits.diagonal().sum(), points)
    weight = slopes.double().flatten(1)
    return weight, logits[0].detach().double() - weight @ middle.double().flatten()


def agrees(weight: Tensor, bias: Tensor, x: Tensor, logits: Tensor) -> bool:
    """Return whether logits (B, K) are weight @ x + bias, up to the rounding of float32."""
    flat = x.double().flatten(1)
    off = (flat @ weight.T + bias - logits.double()).abs()
    terms = flat.abs() @ weight.abs().T + bias.abs() + 1
    return bool((off <= _SAME * terms).all())


def minimal_distance(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm, box: tuple[float, float]
) -> Tensor:
    """Return the least norm (B,) of a move within the box that ties or beats the logit of y.

    Zero where it is beaten already, infinite where no point of the box is misread.

    Args:
        weight: (K, D).
        bias: (K,).
        x: inputs (B, *S) in the box, D entries each.
        y: labels (B,).
        norm: what is measured.
        box: lowest and highest allowed value.
    """
    return _distances(weight, bias, x, y, norm, box).amin(1)


def minimal_move(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm, box: tuple[float, float],
    *, overshoot: float = 0.0,
) -> Tensor:  # fmt: skip
    """Return the shortest moves (B, *S) in float64 after which y is beaten.

    Args:
        weight: (K, D).
        bias: (K,).
        x: inputs (B, *S) in the box.
        y: labels (B,).
        norm: what is measured.
        box: lowest and highest allowed value.
        overshoot: how far beyond the tie, relative to the size of the terms that a logit sums.
    """
    rival = _distances(weight, bias, x, y, norm, box).argmin(1)
    slope, room, gap = _crossing(weight, bias, x, y, rival, box)
    terms = (slope.abs() * x.double().flatten(1).abs()).sum(1) + gap.abs()
    return _signed(_cheapest(slope.abs(), room, gap + overshoot * terms, norm), slope, x)


def strongest_move(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm, epsilon: Tensor,
    box: tuple[float, float],
) -> Tensor:  # fmt: skip
    """Return the moves (B, *S) of norm ≤ epsilon that lift some other logit most above that of y.

    Args:
        weight: (K, D).
        bias: (K,).
        x: inputs (B, *S) in the box.
        y: labels (B,).
        norm: what is measured.
        epsilon: a scalar tensor or (B, 1, …).
        box: lowest and highest allowed value.
    """
    far = epsilon.double().expand(len(x), *[1] * (x.dim() - 1)).reshape(-1)
    best, lead = (
        torch.zeros_like(x, dtype=torch.float64),
        x.new_full((len(x),), -torch.inf).double(),
    )
    for rival in range(len(weight)):
        slope, room, gap = _crossing(weight, bias, x, y, torch.full_like(y, rival), box)
        size = _fullest(slope.abs(), room, far, norm)
        ahead = (slope.abs() * size).sum(1) - gap
        ahead = torch.where(y == rival, -torch.inf, ahead)
        better = (ahead > lead).view(-1, *[1] * (x.dim() - 1))
        best, lead = torch.where(better, _signed(size, slope, x), best), torch.maximum(lead, ahead)
    return best


def _distances(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, norm: Norm, box: tuple[float, float]
) -> Tensor:
    """Return the least norm (B, K) for each class to tie y; infinite for y itself."""
    columns = []
    for rival in range(len(weight)):
        slope, room, gap = _crossing(weight, bias, x, y, torch.full_like(y, rival), box)
        size = _cheapest(slope.abs(), room, gap, norm)
        length = _length(size, norm)
        # Rounding alone must not forbid what the fullest move just reaches.
        possible = (slope.abs() * room).sum(1) >= gap * (1 - 1e-12)
        columns.append(torch.where(possible & (y != rival), length, torch.inf))
    return torch.stack(columns, 1)


def _crossing(
    weight: Tensor, bias: Tensor, x: Tensor, y: Tensor, rival: Tensor, box: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return slope (B, D), room (B, D) along it, and gap (B,) ≥ 0 to climb for rival to tie y."""
    start = x.double().flatten(1)
    slope = (weight[rival] - weight[y]).double()
    gap = -((slope * start).sum(1) + (bias[rival] - bias[y]).double())
    room = torch.where(slope > 0, box[1] - start, start - box[0])
    return slope, room, gap.clamp_min(0)


def _cheapest(steep: Tensor, room: Tensor, gap: Tensor, norm: Norm) -> Tensor:
    """Return entry sizes (B, D) of least norm with Σ steep · size = gap, each at most its room."""
    if norm == "linf":
        return torch.minimum(_level(steep, room, gap), room)
    if norm == "l2":
        # size = t · steep up to the room, so Σ steep² · min(t, room / steep) = gap.
        cap = torch.where(steep > 0, room / steep, 0.0)
        return steep * torch.minimum(_level(steep.square(), cap, gap), cap)
    value = steep if norm == "l1" else steep * room
    order = value.argsort(dim=1, descending=True, stable=True)
    gain = (steep * room).gather(1, order)
    before = gain.cumsum(1) - gain
    lacking = (gap[:, None] - before).clamp_min(0)
    whole = room.gather(1, order)
    if norm == "l0":
        size = torch.where(lacking > 0, whole, 0.0)
    else:
        size = torch.minimum(lacking / steep.gather(1, order), whole).nan_to_num(0.0)
    return torch.zeros_like(size).scatter_(1, order, size)


def _fullest(steep: Tensor, room: Tensor, far: Tensor, norm: Norm) -> Tensor:
    """Return entry sizes (B, D) of norm ≤ far with the largest Σ steep · size within the room."""
    if norm == "linf":
        size = torch.minimum(far[:, None], room)
    elif norm == "l2":
        cap = torch.where(steep > 0, room / steep, 0.0)
        level = _level(steep.square(), cap.square(), far.square()).sqrt()
        size = steep * torch.minimum(level, cap)
    else:
        value = steep if norm == "l1" else steep * room
        order = value.argsort(dim=1, descending=True, stable=True)
        whole = room.gather(1, order)
        spent = whole.cumsum(1) - whole if norm == "l1" else torch.arange(whole.shape[1]).to(whole)
        rest = (far[:, None] - spent).clamp_min(0)
        kept = torch.minimum(rest, whole) if norm == "l1" else torch.where(rest >= 1, whole, 0.0)
        size = torch.zeros_like(room).scatter_(1, order, kept)
    return torch.where(steep > 0, size, 0.0)


def _level(weight: Tensor, cap: Tensor, total: Tensor) -> Tensor:
    """Return the level t (B, 1) with Σ weight · min(t, cap) = total, or infinity."""
    cap, order = cap.sort(dim=1)
    weight = weight.gather(1, order)
    filled = (weight * cap).cumsum(1) - weight * cap
    open_weight = weight.flip(1).cumsum(1).flip(1)
    # While entries from k on are open the level is (total − filled) / open_weight: the first k at
    # which it stays below the cap is the place.
    level = (total[:, None] - filled) / open_weight
    level = torch.where(open_weight > 0, level, torch.inf)
    fits = level <= cap
    place = fits.to(torch.uint8).argmax(1, keepdim=True)
    return torch.where(fits.any(1, keepdim=True), level.gather(1, place), torch.inf)


def _length(size: Tensor, norm: Norm) -> Tensor:
    if norm == "l0":
        return (size > 0).sum(1).double()
    order = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}[norm]
    return torch.linalg.vector_norm(size, ord=order, dim=1)


def _signed(size: Tensor, slope: Tensor, x: Tensor) -> Tensor:
    return size.copysign(slope).view_as(x)
