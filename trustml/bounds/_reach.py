"""How far a linear function can be moved within a threat: from above, whatever the rounding.

For L1 and L2 the maximum over ball and box is bounded through its Lagrange dual, which holds for
any multiplier and is the maximum itself for the best one (weak duality).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.contracts import Norm, Threat

# A float64 sum of D products errs by D·2^-53 of their sizes at most: this covers D up to 10^6.
_SLACK = 2e-10
_NEWTON_STEPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """What an attacker can reach: inputs x (B, D) and epsilon (B, 1) in float64, within the box."""

    norm: Norm
    x: Tensor
    epsilon: Tensor
    low: float
    high: float

    @property
    def lower(self) -> Tensor:
        """The least value (B, D) of each entry."""
        return self.x - self._far(self.x - self.low)

    @property
    def upper(self) -> Tensor:
        """The greatest value (B, D) of each entry."""
        return self.x + self._far(self.high - self.x)

    def at(self, rows: Tensor) -> "Region":
        """Return the region of the given rows."""
        return Region(self.norm, self.x[rows], self.epsilon[rows], self.low, self.high)

    def lowest(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Return a lower bound (P,) of weights (P, D) · x over the regions of samples `rows`."""
        near = self.at(rows)
        # Down the slope: entries with a positive weight can fall, the others can rise.
        room = torch.where(weights > 0, near.x - self.low, self.high - near.x).clamp_min(0)
        terms = weights.abs()
        size = (terms * near.x.abs()).sum(1) + (terms * near._far(room)).sum(1)
        fall = farthest(terms, near._far(room), near.epsilon, self.norm)
        return (weights * near.x).sum(1) - fall - _SLACK * size

    def _far(self, room: Tensor) -> Tensor:
        """Return how far each entry can go where it has `room` up to the box."""
        if self.norm == "l0":
            return torch.where(self.epsilon >= 1, room, 0.0)
        return torch.minimum(room, self.epsilon)


def region(x: Tensor, threat: Threat, device: torch.device) -> Region:
    """Return what the threat allows around x (B, *S)."""
    epsilon = threat.budget(x).to(device).double().expand(len(x), *[1] * (x.dim() - 1))
    flat = x.to(device).double().flatten(1)
    # So large a ball holds the box in every norm, and unlike infinity times 0 it is a number.
    most = flat.shape[1] * max(1.0, threat.high - threat.low)
    far = epsilon.reshape(-1, 1).clamp(max=most)
    return Region(threat.norm, flat, far, threat.low, threat.high)


def farthest(slope: Tensor, room: Tensor, epsilon: Tensor, norm: Norm) -> Tensor:
    """Return at least the largest Σ slope · size (P,) over sizes ≤ room with a norm ≤ epsilon.

    Args:
        slope: (P, D), none negative.
        room: (P, D), none negative, none above epsilon (but for L0).
        epsilon: (P, 1).
        norm: of the sizes.
    """
    whole = (slope * room).sum(1)
    if norm == "linf":
        return whole
    if norm == "l0":
        count = int(epsilon.amax().clamp(max=slope.shape[1]))
        best = (slope * room).topk(count, dim=1).values
        kept = torch.arange(count, device=slope.device) < epsilon.floor()
        return torch.where(kept, best, 0.0).sum(1)
    dual = _dual_l1(slope, room, epsilon) if norm == "l1" else _dual_l2(slope, room, epsilon)
    return torch.minimum(whole, dual)


def _dual_l1(slope: Tensor, room: Tensor, epsilon: Tensor) -> Tensor:
    """Return λ·epsilon + Σ room · max(slope − λ, 0), the budget being spent at the slope λ."""
    order = slope.argsort(dim=1, descending=True)
    spent = room.gather(1, order).cumsum(1)
    place = (spent < epsilon).sum(1, keepdim=True)
    last = place.clamp(max=slope.shape[1] - 1)
    price = torch.where(place <= last, slope.gather(1, order.gather(1, last)), 0.0)
    return (price * epsilon)[:, 0] + (room * (slope - price).clamp_min(0)).sum(1)


def _dual_l2(slope: Tensor, room: Tensor, epsilon: Tensor) -> Tensor:
    """Return Σ (slope·d − d²/2t) + epsilon²/2t with d = min(t · slope, room).

    The best t spends the budget, Σ d² = epsilon²; Newton's method climbs to it from below.
    """
    free = slope.square().sum(1, keepdim=True)
    plain = epsilon[:, 0] * free[:, 0].sqrt()
    time = epsilon / free.sqrt()
    for _ in range(_NEWTON_STEPS):
        full = time * slope >= room
        spent = torch.where(full, room, 0.0).square().sum(1, keepdim=True)
        free = torch.where(full, 0.0, slope).square().sum(1, keepdim=True)
        time = torch.maximum(
            time,
            ((epsilon.square() - spent).clamp_min(0) / free).sqrt().nan_to_num(0.0, posinf=0.0),
        )
    size = torch.minimum(time * slope, room)
    dual = (slope * size).sum(1) + (
        (epsilon.square()[:, 0] - size.square().sum(1)) / (2 * time[:, 0])
    )
    # Without a slope, or without a budget, there is no finite time, and the plain bound is exact.
    return torch.fmin(plain, dual)
