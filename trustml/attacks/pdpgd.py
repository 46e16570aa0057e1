"""Primal-dual proximal gradient descent: distance and misreading as two players of one game."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._descent import DUAL, annealed, see_margin, side, unit
from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Quarry, Seen
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-12
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
    rate: float = 0.1,
    dual_rate: float = 0.1,
    first_ratio: float = 0.01,
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
        rate: Adam's first step, in widths of the box; the last is a hundredth.
        dual_rate: by how much the logarithm of the weights' ratio changes; in the end a tenth.
        first_ratio: what distance weighs over what misreading does, at first. 1 balances an
            affine model: nearer for networks trained as usual, farther for adversarially trained.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a rate or ratio not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not min(rate, dual_rate, first_ratio) > 0:
        raise BadOption(
            f"pdpgd: steps={steps} must be 1 or more, rate={rate}, dual_rate={dual_rate} and "
            f"first_ratio={first_ratio} above 0"
        )

    def begin(quarry: Quarry, nearest: Nearest) -> Game:
        return _begin(quarry, torch.full_like(nearest.distance, first_ratio))

    def advance(walk: Game, seen: Seen, quarry: Quarry, nearest: Nearest) -> Game:
        pace = annealed(dual_rate, dual_rate / 10, walk.step, steps)
        odds = walk.odds + pace * torch.where(seen.reached, 1.0, -1.0)
        weight = _MEMORY * walk.weight + (1 - _MEMORY) * odds.sigmoid()
        walk = replace(walk, odds=odds, weight=weight)
        return _moved(walk, seen, quarry, annealed(rate, rate / 100, walk.step, steps))

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=begin, see=see_margin, advance=advance,
        steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    if threat.norm == "l0":
        nearest = thinned(model, quarry, nearest, _TRIES, stop_inside=stop_inside)
    return answer(nearest, quarry)


def _begin(quarry: Quarry, ratio: Tensor) -> Game:
    still = torch.zeros_like(quarry.x)
    return Game(quarry.x, still, still, ratio.log(), ratio / (1 + ratio))


def _moved(walk: Game, seen: Seen, quarry: Quarry, pace: float) -> Game:
    """Return the walk one proximal step of Adam further."""
    norm, wide, threat = quarry.threat.norm, side(quarry.threat), quarry.threat
    move, weight = (seen.point - quarry.x) / wide, walk.weight.to(seen.point.dtype)
    # Slopes of length 1 in the dual norm weigh as much as the distance: logits have any scale.
    slope = like(weight - 1, move) * unit(seen.gradient, "linf" if norm == "l0" else DUAL[norm])
    if norm == "l2":
        slope = slope + like(weight, move) * unit(move)
    mean = _MEAN * walk.mean + (1 - _MEAN) * slope
    square = _SQUARE * walk.square + (1 - _SQUARE) * slope.square()
    step = walk.step + 1
    stiff = ((square / (1 - _SQUARE**step)).sqrt() + _TINY) / pace
    goal = move - mean / (1 - _MEAN**step) / stiff
    near = _nearer(goal.flatten(1), stiff.flatten(1), weight[:, None], norm).view_as(move)
    point = (quarry.x + wide * near).clamp(threat.low, threat.high)
    return replace(walk, point=point, mean=mean, square=square, step=step)


def _nearer(goal: Tensor, stiff: Tensor, weight: Tensor, norm: Norm) -> Tensor:
    """Return the moves (B, D) of least Σ stiff · (move − goal)² / 2 + weight · ‖move‖."""
    size = goal.abs()
    if norm == "l2":
        return goal
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
