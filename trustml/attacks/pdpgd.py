"""Primal-dual proximal gradient descent: distance and misreading as two players of one game."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._descent import DUAL, annealed, length, see_margin, side, unit
from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-12
# The odds of the weights stay within these, so that they can turn again.
_ODDS = 14.0
# Entries are no less stiff than this share of the stiffest. Without it, entries whose slope is zero
# so far are pulled home before they can matter; in the paper five rounds of an inner loop, which
# stops short of the nearest point, have that effect. Tried: 0, 1/20, 1/10, 1/5, 1.
_STIFF: dict[Norm, float] = {"linf": 0.0, "l2": 0.05, "l1": 0.2, "l0": 0.2}
# Rounds of Newton's method after which a length is known to float32; it does not overshoot.
_ROUNDS = 5
# What distance weighs is averaged over the steps with this memory, as in the paper.
_MEMORY = 0.9
# Forward passes in the end to put entries back (L0); not in the paper.
_TRIES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """Where a walk stands.

    Args:
        point: (B, *S) in the box.
        mean: Adam's mean (B, *S) of slopes; `square` of their squares.
        odds: (B,) the logarithm of what distance weighs over what misreading does.
        weight: (B,) what distance weighs, in [0, 1]; misreading weighs the rest.
        step: moves so far.
    """

    point: Tensor
    mean: Tensor
    square: Tensor
    odds: Tensor
    weight: Tensor
    step: int = 0


@attack(
    source="Matyasko & Chau 2021, arXiv:2106.01538",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1", "l0"),
    minimum_norm=True,
)
def pdpgd(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 500,
    rate: float | None = None,
    dual_rate: float | None = None,
    first_ratio: float | None = None,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    One player moves the point down the weighted sum of distance and misreading, by a proximal step
    of Adam; the other gives distance more weight after a look that won, less after one that lost.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of the walk.
        rate: Adam's first step, in widths of the box; the last is a hundredth. By default 0.1, or
            12 / steps if that is more.
        dual_rate: by how much the logarithm of the weights' ratio changes; in the end a tenth. By
            default 0.1, or 16 / steps if that is more, to come back to the border in time.
        first_ratio: what distance weighs over what misreading does, at first. By default 0.01; in
            L1 and L2 3 / steps if that is more, up to 0.1.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a rate or ratio not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    pace, dual, ratio = _paces(threat.norm, steps, rate, dual_rate, first_ratio)

    def advance(walk: Game, seen: Seen, quarry: Quarry, nearest: Nearest) -> Game:
        turn = annealed(dual, dual / 10, walk.step, steps)
        odds = (walk.odds + turn * torch.where(seen.reached, 1.0, -1.0)).clamp(-_ODDS, _ODDS)
        weight = _MEMORY * walk.weight + (1 - _MEMORY) * odds.sigmoid()
        walk = replace(walk, odds=odds, weight=weight)
        return _moved(walk, seen, quarry, pace * 0.01 ** (walk.step / steps))

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry),
        begin=lambda quarry, nearest: _begin(quarry, ratio),
        see=see_margin, advance=advance, steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    if threat.norm == "l0":
        nearest = thinned(model, quarry, nearest, _TRIES, stop_inside=stop_inside)
    return answer(nearest, quarry)


def _paces(
    norm: Norm, steps: int, rate: float | None, dual: float | None, ratio: float | None
) -> tuple[float, float, float]:
    """Return the first step, the dual one and the first ratio: as given, or what the looks need.

    Short walks have to be quicker to come back to the border in time. A ratio of 1 balances an
    affine model, but then adversarially trained networks are hard to get anywhere in.
    """
    count, near = max(steps, 1), norm in ("l1", "l2")
    rate = max(0.1, 12 / count) if rate is None else rate
    dual = max(0.1, 16 / count) if dual is None else dual
    ratio = min(0.1, max(0.01, 3 / count if near else 0.0)) if ratio is None else ratio
    if steps < 1 or not min(rate, dual, ratio) > 0:
        need = f"rate={rate}, dual_rate={dual}, first_ratio={ratio} above 0"
        raise BadOption(f"pdpgd: steps={steps} must be 1 or more, {need}")
    return rate, dual, ratio


def _begin(quarry: Quarry, first_ratio: float) -> Game:
    still = torch.zeros_like(quarry.x)
    ratio = torch.full_like(quarry.y, first_ratio, dtype=torch.float64)
    return Game(quarry.x, still, still, ratio.log(), ratio / (1 + ratio))


def _moved(walk: Game, seen: Seen, quarry: Quarry, pace: float) -> Game:
    """Return the walk one proximal step of Adam further."""
    norm, wide, threat = quarry.threat.norm, side(quarry.threat), quarry.threat
    # Slopes of length 1 in the dual norm weigh as much as the distance: logits have any scale. A
    # point that has won by far is hardly pushed on: softplus of what is lacking is what falls.
    push = like((-seen.losses).sigmoid().to(seen.point.dtype), seen.point)
    slope = -push * unit(seen.gradient, "linf" if norm == "l0" else DUAL[norm])
    mean = _MEAN * walk.mean + (1 - _MEAN) * slope
    square = _SQUARE * walk.square + (1 - _SQUARE) * slope.square()
    step = walk.step + 1
    stiff = ((square / (1 - _SQUARE**step)).sqrt() + _TINY).flatten(1)
    onward = seen.point - wide * pace * (mean / (1 - _MEAN**step) / stiff.view_as(mean))
    goal = (onward.clamp(threat.low, threat.high) - quarry.x).flatten(1) / wide
    stiff = torch.maximum(stiff, _STIFF[norm] * stiff.amax(1, keepdim=True)) / pace
    ratio = (walk.weight / (1 - walk.weight)).to(goal.dtype)[:, None]
    near = _nearer(goal, stiff, ratio, norm).view_as(mean)
    point = (quarry.x + wide * near).clamp(threat.low, threat.high)
    return replace(walk, point=point, mean=mean, square=square, step=step)


def _nearer(goal: Tensor, stiff: Tensor, weight: Tensor, norm: Norm) -> Tensor:
    """Return the moves (B, D) of least Σ stiff · (move − goal)² / 2 + weight · ‖move‖."""
    size = goal.abs()
    if norm == "l2":
        return _shorter(goal, stiff, weight.double())
    if norm == "l1":
        return (size - weight / stiff).clamp_min(0).copysign(goal)
    if norm == "l0":
        return torch.where(stiff * size.square() > 2 * weight, goal, 0.0)
    # All are cut at the level t where Σ stiff · (size − t)₊ is the weight, or at 0.
    size, order = size.double().sort(dim=1, descending=True)
    stiff = stiff.double().gather(1, order)
    level = ((stiff * size).cumsum(1) - weight) / stiff.cumsum(1)
    level = level.amax(1, keepdim=True).clamp_min(0).to(goal.dtype)
    return torch.clamp(goal, -level, level)


def _shorter(goal: Tensor, stiff: Tensor, weight: Tensor) -> Tensor:
    """Return the moves (B, D) of least Σ stiff · (move − goal)² / 2 + weight · ‖move‖₂.

    At the least each entry is stiff · goal / (stiff + weight / r) with r the length of the whole.
    """
    pull = stiff * goal
    # No entry is stiffer than the stiffest, so r is no less; from there no share is above 1/stiff.
    height = length(pull, "l2")[:, None]
    radius = ((height - weight) / stiff.amax(1, keepdim=True)).clamp_min(0)
    weight = weight.to(goal.dtype)
    for _ in range(_ROUNDS):
        # The right radius makes the shares' length 1; its inverse is nearly affine in the radius.
        soft = torch.addcmul(weight, stiff, radius.to(goal.dtype)).clamp_min(_TINY)
        share = (pull / soft).square_()
        size = _total(share).sqrt().clamp_min(_TINY)
        growth = _total(share.mul_(stiff).div_(soft)) / size**3
        radius = (radius + (1 - 1 / size) / growth.clamp_min(_TINY)).clamp_min(0)
    radius = radius.to(goal.dtype)
    return radius * pull / torch.addcmul(weight, stiff, radius).clamp_min(_TINY)


def _total(values: Tensor) -> Tensor:
    """Return sums (B, 1) in float64, so that no rounding depends on the other rows."""
    return values.sum(1, keepdim=True, dtype=torch.float64)
