"""Decoupled direction and norm: the direction follows the gradient, the length the answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._descent import annealed, side, unit
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Seen, look
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

# Of the first sphere, in widths of the box.
_RADIUS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Sphere:
    """Where a walk stands (B, *S), on spheres of `radius` (B,) around the inputs; its step."""

    point: Tensor
    radius: Tensor
    step: int = 0


@attack(
    source="Rony et al. 2019, arXiv:1811.09600, algorithm 1",
    needs=Access.GRADIENTS,
    norms=("l2",),
    minimum_norm=True,
)
def ddn(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    rate: float = 1.0,
    change: float = 0.05,
    loss: LossName = "cross_entropy",
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    Each step turns the move along the gradient, and scales it to a sphere that shrinks after a look
    that won and grows after one that did not.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of the walk.
        rate: length of the first step along the gradient, in widths of the box; the last is a
            hundredth.
        change: the share by which a sphere grows or shrinks at each step.
        loss: what is climbed.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a rate not above 0, a change not between 0 and 1.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not rate > 0:
        raise BadOption(f"ddn: steps={steps} must be 1 or more and rate={rate} above 0")
    if not 0 < change < 1:
        raise BadOption(f"ddn: change={change} must be between 0 and 1")

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    def see(model: Classifier, walk: Sphere, quarry: Quarry) -> Seen:
        return look(model, walk.point, quarry, climbed)

    def advance(walk: Sphere, seen: Seen, quarry: Quarry, nearest: Nearest) -> Sphere:
        pace = annealed(rate, rate / 100, walk.step, steps) * side(quarry.threat)
        move = unit(seen.point - quarry.x + pace * unit(seen.gradient))
        wide = walk.radius * torch.where(seen.reached, 1 - change, 1 + change)
        point = quarry.x + like(wide.to(move.dtype), move) * move
        return Sphere(point.clamp(quarry.threat.low, quarry.threat.high), wide, walk.step + 1)

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=_begin, see=see, advance=advance, steps=steps,
        stop_inside=stop_inside,
    )  # fmt: skip
    return answer(nearest, quarry)


def _begin(quarry: Quarry, nearest: Nearest) -> Sphere:
    return Sphere(quarry.x, torch.full_like(nearest.distance, _RADIUS * side(quarry.threat)))
