"""ALMA: the least distance under the constraint of winning, by an augmented Lagrangian."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._descent import DUAL, TINY, length, side, unit
from trustml.attacks._losses import dlr
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._pursuit import Seen, look
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

# The paper's: what averages keep; looks between checks; the fall of the constraint that a check
# asks for; what the penalty grows by otherwise; the last step over the first; the constraint's gap.
_KEPT, _CHECK, _FALL, _GROWTH, _LAST, _GAP = 0.9, 10, 0.95, 1.2, 0.01, 1e-4
# How far the first step goes, in sides of the box.
_REACH: dict[Norm, float] = {"l2": 0.1, "l1": 0.5}
_ROUNDS, _FARTHEST = 20, 100.0
# And no farther than a share of the way to where the border were, was the ratio affine.
_NEAR = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Where a walk stands.

    Args:
        point: (B, *S).
        square: mean (B, *S) of the slope's squares; `drift` the sum of the steps, older ones faded.
        weight: μ (B,), the multiplier of the constraint; `penalty` ρ (B,).
        lacking: the constraint (B,) at the last check; above 0 while the sample is read rightly.
        rate: (B,) the first step over its slope.
        found: number (B,) of the first look that won, else beyond all.
        step: looks so far.
    """

    point: Tensor
    square: Tensor
    drift: Tensor
    weight: Tensor
    penalty: Tensor
    lacking: Tensor
    rate: Tensor
    found: Tensor
    step: int = 0


@attack(
    source="Rony et al. 2021, arXiv:2011.11857, algorithm 2 with the penalty P2",
    needs=Access.GRADIENTS,
    norms=("l2", "l1"),
    minimum_norm=True,
)
def alma(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 1000,
    reach: float | None = None,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win, drawn in; else the input itself.

    Not in the paper: the first step is shorter where the border seems near, and in the end the way
    back to the input is halved.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of the walk.
        reach: how far the first step goes at most, in sides of the box; by default 0.1 (L1: 0.5).
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a reach not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    reach = _REACH[threat.norm] if reach is None else reach
    if steps < 1 or not reach > 0:
        raise BadOption(f"alma: steps={steps} must be 1 or more and reach={reach} above 0")

    def advance(walk: Weighed, seen: Seen, quarry: Quarry, nearest: Nearest) -> Weighed:
        return _moved(_weighed(walk, seen, nearest, steps), seen, quarry, steps, reach)

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=lambda quarry, _: _begin(quarry, steps),
        see=_see, advance=advance, steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    return answer(drawn_in(model, quarry, nearest, stop_inside=stop_inside), quarry)


def _see(model: Classifier, walk: Weighed, quarry: Quarry) -> Seen:
    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return dlr(logits, quarry.y, quarry.threat.targeted)

    return look(model, walk.point, quarry, climbed)


def _begin(quarry: Quarry, steps: int) -> Weighed:
    x = quarry.x
    one = torch.ones(len(x), dtype=torch.float64, device=x.device)
    wide = torch.zeros_like(x)
    return Weighed(x, wide + 1, wide, one, one, one * torch.inf, one, one * (steps + 1))


def _weighed(walk: Weighed, seen: Seen, nearest: Nearest, steps: int) -> Weighed:
    """Return the walk with the weights that suit what was seen."""
    lacking = _GAP - seen.losses.double()
    weight, penalty, last = walk.weight, walk.penalty, walk.lacking
    if walk.step == 0:
        return replace(walk, lacking=lacking)
    if (walk.step + 1) % _CHECK == 0:
        idle = nearest.distance.isinf() & (lacking >= _FALL * last)
        penalty, last = torch.where(idle, _GROWTH * penalty, penalty), lacking
    weight = _KEPT * weight + (1 - _KEPT) * _pressure(lacking, penalty, weight)
    found = torch.where(seen.reached, torch.full_like(walk.found, walk.step), walk.found)
    return replace(
        walk, weight=weight.clamp(1e-6, 1e12), penalty=penalty, lacking=last,
        found=torch.minimum(walk.found, found),
    )  # fmt: skip


def _pressure(lacking: Tensor, penalty: Tensor, weight: Tensor) -> Tensor:
    """Return how steep (B,) the penalty P2 is in the constraint."""
    above, below = lacking.clamp_min(0), lacking.clamp_max(0)
    climbing = weight + 2 * weight * penalty * above + (penalty * above).square() / 2
    return torch.where(lacking >= 0, climbing, weight / (1 - penalty * below).square())


def _moved(walk: Weighed, seen: Seen, quarry: Quarry, steps: int, reach: float) -> Weighed:
    """Return the walk one step down distance + penalty; lengths are in sides of the box."""
    wide, norm = side(quarry.threat), quarry.threat.norm
    pressure = _pressure(_GAP - seen.losses.double(), walk.penalty, walk.weight)
    slope = -like((wide * pressure).to(seen.gradient.dtype), seen.gradient) * seen.gradient
    if walk.step == 0:
        walk = replace(walk, rate=_first_rate(slope, seen, quarry, reach))
    else:
        move = seen.point - quarry.x
        slope = slope + (unit(move) if norm == "l2" else move.sign())
    square = _KEPT * walk.square + (1 - _KEPT) * slope.square()
    drift = _KEPT * walk.drift + slope / (square.sqrt() + 1e-8)
    share = (walk.step - walk.found).clamp_min(0) / (steps - walk.found)
    pace = like((wide * walk.rate * _LAST**share).to(drift.dtype), drift)
    point = (seen.point - pace * drift).clamp(quarry.threat.low, quarry.threat.high)
    return replace(walk, point=point, square=square, drift=drift, step=walk.step + 1)


def _first_rate(slope: Tensor, seen: Seen, quarry: Quarry, reach: float) -> Tensor:
    """Return the factors (B,) with which a step down the slope, cut at the walls, goes `reach`."""
    wide, norm = side(quarry.threat), quarry.threat.norm
    border = seen.losses.double().abs() / length(seen.gradient, DUAL[norm]).clamp_min(TINY) / wide
    far = (_NEAR * border).clamp(max=reach)
    straight = far / length(slope, norm).clamp_min(TINY)
    least, most = straight, _FARTHEST * straight
    for _ in range(_ROUNDS):
        middle = (least + most) / 2
        point = quarry.x - like((wide * middle).to(slope.dtype), slope) * slope
        move = point.clamp(quarry.threat.low, quarry.threat.high) - quarry.x
        beyond = length(move, norm) > far * wide
        least, most = torch.where(beyond, least, middle), torch.where(beyond, middle, most)
    return least
