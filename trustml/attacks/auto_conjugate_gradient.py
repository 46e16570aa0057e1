"""Auto conjugate gradient: APGD's steps and checks, with conjugate gradients for momentum."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trustml.attacks._adaptive import Adaptive, allowed, begin_climb, checked
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Seen, at_rest, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like, steepest
from trustml.registry import attack

# A slope that changed by less of itself has not changed.
_STILL = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Conjugate:
    """Where a walk stands (B, *S).

    Args:
        climb: its steps and what it counts, as APGD's.
        slope: the gradient (B, *S) at the last point; `way` the direction that led on from there.
        best_slope: those of the highest point: (B, *S), as `best_way`.
    """

    point: Tensor
    climb: Adaptive
    slope: Tensor
    way: Tensor
    best_slope: Tensor
    best_way: Tensor


@attack(
    source="Yamamura et al. 2022, arXiv:2206.09628, algorithm 1",
    needs=Access.GRADIENTS,
    norms=("linf", "l2"),
)
def auto_conjugate_gradient(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    restarts: int = 1,
    loss: LossName = "cross_entropy",
) -> Tensor:
    """Return the best points (B, *S) of walks by conjugate gradients, whose steps halve.

    A direction is the gradient plus β times the last direction, in place of `apgd`'s momentum. β
    is Hestenes and Stiefel's with the sign that the authors' program gives it: with the textbook's,
    under which directions are conjugate, walks are weaker.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        steps: moves of one walk.
        restarts: walks for each sample that no earlier walk has won.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1.
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, restarts) < 1:
        raise BadOption(
            f"auto_conjugate_gradient: steps={steps} and restarts={restarts} must be 1 or more"
        )

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    best = at_rest(model, Quarry(x, y, threat, random))
    for restart in range(restarts):
        quarry = Quarry(x, y, threat, random.fold(restart))
        best = pursue(
            model, quarry, best, begin=partial(_begin, steps=steps), advance=_onward, loss=climbed,
            steps=steps,
        )  # fmt: skip
    return threat.project(best.point, x)


def _begin(quarry: Quarry, steps: int) -> Conjugate:
    climb, still = begin_climb(quarry, steps), torch.zeros_like(quarry.x)
    return Conjugate(climb.point, climb, still, still, still, still)


def _onward(walk: Conjugate, seen: Seen, quarry: Quarry) -> Conjugate:
    """Return the walk one step further, after a check where one is due."""
    climb, slope, way, point = walk.climb, walk.slope, walk.way, seen.point
    higher = like(seen.losses > climb.peak.loss, point)
    best_slope = torch.where(higher, slope, walk.best_slope)
    best_way = torch.where(higher, way, walk.best_way)
    climb = replace(
        climb, peak=climb.peak.or_higher(seen), rises=climb.rises + (seen.losses > climb.last),
        last=seen.losses,
    )  # fmt: skip
    gradient = seen.gradient
    if climb.since == climb.window:
        climb = checked(climb)
        back = like(climb.halved, point)
        point = torch.where(back, climb.peak.point, point)
        gradient = torch.where(back, climb.peak.gradient, gradient)
        slope, way = torch.where(back, best_slope, slope), torch.where(back, best_way, way)
    onward = gradient + like(_share(gradient, slope, way).to(way.dtype), way) * way
    step = like(climb.step, point) * steepest(onward, quarry.threat.norm)
    target = allowed(climb, point + step, quarry)
    climb = replace(climb, point=target, previous=point, since=climb.since + 1)
    return Conjugate(target, climb, gradient, onward, best_slope, best_way)


def _share(gradient: Tensor, slope: Tensor, way: Tensor) -> Tensor:
    """Return β (B,), how much of the last direction `way` is kept; 0 where that is no number."""
    new, old, last = (part.flatten(1).double() for part in (gradient, slope, way))
    change = old - new
    share = (new * change).sum(1) / (last * change).sum(1)
    # Back at the same corner of the cube, what the slope has changed by is rounding.
    still = change.square().sum(1) <= _STILL**2 * new.square().sum(1)
    return torch.where(share.isfinite() & ~still, share, 0.0)
