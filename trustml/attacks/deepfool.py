"""DeepFool: onto the nearest plane where two classes would tie, again and again."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._descent import DUAL, TINY, length, see_margin, side, unit
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._planes import nearest_rival, onto_plane
from trustml.attacks._pursuit import NO_GRADIENT, Seen, likeliest_others
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption, NotApplicable
from trustml.geometry import like
from trustml.registry import attack
from trustml.threats import Lp, check_answers

# How much farther than to the plane steps go besides, in sides of the box, as the authors' code: a
# walk that the box's walls hold up comes nearer and nearer and would not get there.
_BEYOND = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Approach:
    """Where a walk stands (B, *S), the classes (B, C) that it may go to, its step."""

    point: Tensor
    rivals: Tensor
    step: int = 0


@attack(
    source="Moosavi-Dezfooli et al. 2016, arXiv:1511.04599, algorithm 2 and §2.3",
    needs=Access.GRADIENTS,
    norms=("l2", "linf"),
    minimum_norm=True,
)
def deepfool(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 50,
    classes: int = 10,
    overshoot: float = 0.02,
) -> Tensor:
    """Return the first points (B, *S) that win, drawn in; the input itself where none does.

    Not in the paper: after half of the steps losers begin anew, with moves that reach the plane
    within the box (the paper's fall short at its walls); in the end the way back is halved.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget does not matter.
        random: not used.
        steps: looks at most; a sample is done when it has won.
        classes: go to the nearest of so many likeliest, y included; each costs a pass back a look.
        overshoot: how much longer than to the plane a step is.

    Raises:
        BadOption: steps below 1, classes below 2, an overshoot below 0.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or classes < 2 or not overshoot >= 0:
        raise BadOption(
            f"deepfool: steps={steps} must be 1 or more, classes={classes} 2 or more, "
            f"overshoot={overshoot} 0 or more"
        )

    def begin(quarry: Quarry, nearest: Nearest) -> Approach:
        rivals = quarry.y[:, None] if quarry.target is None else quarry.target
        return Approach(quarry.x, rivals)

    def advance(walk: Approach, seen: Seen, quarry: Quarry, nearest: Nearest) -> Approach:
        box = (quarry.threat.low, quarry.threat.high)
        planned = _within if 2 * walk.step > steps else _straight
        onward = (seen.point + (1 + overshoot) * planned(seen, quarry)).clamp(*box)
        onward = quarry.x if walk.step + 1 == (steps + 1) // 2 else onward
        point = torch.where(like(seen.reached, onward), seen.point, onward)
        return replace(walk, point=point, step=walk.step + 1)

    # With every point allowed, whoever has won is inside and may leave.
    anywhere = Lp(threat.norm, math.inf, threat.low, threat.high, threat.targeted)
    rivals = None if threat.targeted else likeliest_others(model, x, y)[:, : classes - 1]
    quarry = Quarry(x, y, anywhere, random, rivals)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=begin, advance=advance, steps=steps,
        see=see_margin if threat.targeted else _see_nearest, stop_inside=True, every=1,
    )  # fmt: skip
    nearest = drawn_in(model, quarry, nearest)
    return answer(nearest, Quarry(x, y, threat, random))


def _straight(seen: Seen, quarry: Quarry) -> Tensor:
    """Return the shortest moves (B, *S) onto the planes, were there no box."""
    norm = quarry.threat.norm
    far = seen.losses.abs().double() / length(seen.gradient, DUAL[norm]).clamp_min(TINY)
    far = far + _BEYOND * side(quarry.threat)
    way = seen.gradient.sign() if norm == "linf" else unit(seen.gradient)
    return like(far.to(way.dtype), way) * way


def _within(seen: Seen, quarry: Quarry) -> Tensor:
    """Return the shortest moves (B, *S) onto the planes that stay in the box."""
    threat = quarry.threat
    point, slope = seen.point.flatten(1), seen.gradient.flatten(1)
    lacking = -seen.losses.to(point.dtype)
    move = onto_plane(point, slope, lacking, threat.norm, (threat.low, threat.high))
    return move.view_as(seen.point)


def _see_nearest(model: Classifier, walk: Approach, quarry: Quarry) -> Seen:
    """Return the lead (B,) of the class whose plane is nearest, with its slope."""
    with torch.enable_grad():
        point = walk.point.detach().requires_grad_()
        logits = model(point)
        check_answers(logits, len(point))
        if not logits.requires_grad:
            raise NotApplicable(NO_GRADIENT)
        lead, slope = nearest_rival(logits, point, quarry.y, walk.rivals, quarry.threat.norm)
    logits = logits.detach()
    reached = quarry.threat.reached(logits, quarry.y)
    return Seen(point.detach(), logits, lead, slope, reached)
