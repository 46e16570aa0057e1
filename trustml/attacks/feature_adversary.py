"""Feature adversary: inputs whose features are those of a point of another class."""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trustml.attacks._ascent import Ascent, ascend, begin_ascent
from trustml.attacks._losses import margin
from trustml.attacks._pursuit import Seen, at_rest, pursue, untouched
from trustml.attacks._quarry import Quarry
from trustml.attacks.pgd import step_length
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption, NotApplicable
from trustml.registry import attack
from trustml.threats import Lp

# The walk to a guide: its moves, and their length in sides of the box.
_MOVES, _STRIDE = 20, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Mimic:
    """Where a walk stands (B, *S), and the features (B, D) that it is to have."""

    point: Tensor
    ascent: Ascent
    wanted: Tensor
    step: int = 0


@attack(
    source="Sabour et al. 2016, arXiv:1511.05122, equations 1 and 2",
    needs=Access.GRADIENTS,
    norms=("linf",),
)
def feature_adversary(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    step: float | None = None,
) -> Tensor:
    """Return the points (B, *S) of each ball whose features come nearest to those of a guide.

    Not in the paper: the guide is no other image, for an attack is given none, but what a walk
    through the whole box, from the input up the margin, ends at.

    Args:
        model: gives logits and features with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: not used.
        steps: moves of the walk.
        step: length of a move; by default 2.5 · epsilon / steps.

    Raises:
        BadOption: steps below 1, a step not above 0.
        NotApplicable: the model has no features, or its answers no gradient.
    """
    if steps < 1 or (step is not None and not step > 0):
        raise BadOption(
            f"feature_adversary: steps={steps} must be 1 or more and step={step} above 0"
        )
    quarry = Quarry(x, y, threat, random)
    best, guide = at_rest(model, quarry), _guide(model, quarry)

    def begin(quarry: Quarry) -> Mimic:
        ascent = begin_ascent(quarry, step_length(quarry, step, steps), start=False)
        return Mimic(quarry.x, ascent, quarry.x)  # the first look learns what is wanted

    best = pursue(
        model, replace(quarry, start=guide), best, loss=_lead, steps=steps, see=_see,
        begin=begin, advance=_advance,
    )  # fmt: skip
    return threat.project(best.point, x)


def _guide(model: Classifier, quarry: Quarry) -> Tensor:
    """Return the points (B, *S) of the box with the highest margin of a walk from the inputs."""
    threat = quarry.threat
    whole = Lp("linf", math.inf, threat.low, threat.high, threat.targeted)
    free = replace(quarry, threat=whole)
    stride = torch.tensor(_STRIDE * (threat.high - threat.low), dtype=torch.float64)
    begin = partial(begin_ascent, step=stride.to(quarry.x.device), start=False)
    return pursue(
        model, free, untouched(free), begin=begin, advance=ascend, loss=_lead, steps=_MOVES,
        wins=False,
    ).point  # fmt: skip


def _lead(logits: Tensor, quarry: Quarry) -> Tensor:
    return margin(logits, quarry.y, quarry.threat.targeted)


def _see(model: Classifier, walk: Mimic, quarry: Quarry) -> tuple[Mimic, Seen]:
    """Return what the points show: the margin, and the slope towards the guide's features."""
    with torch.no_grad():
        logits = model(walk.point)
        if walk.step == 0:
            assert quarry.start is not None
            walk = replace(walk, wanted=_features(model, quarry.start))
    with torch.enable_grad():
        point = walk.point.detach().requires_grad_()
        off = (_features(model, point) - walk.wanted).square().flatten(1).sum(1)
        if not off.requires_grad:
            raise NotApplicable("the model's features have no gradient with respect to its inputs")
        (slope,) = torch.autograd.grad(-off, point, torch.ones_like(off))
    reached = quarry.threat.reached(logits, quarry.y)
    return walk, Seen(walk.point, logits, _lead(logits, quarry), slope, reached)


def _features(model: Classifier, x: Tensor) -> Tensor:
    """Return the model's features (B, D).

    Raises:
        NotApplicable: it has none.
    """
    try:
        return model.features(x)
    except AttributeError as missing:
        raise NotApplicable(
            "feature_adversary: the model has no features(x); give it that method, or use pgd"
        ) from missing


def _advance(walk: Mimic, seen: Seen, quarry: Quarry) -> Mimic:
    ascent = ascend(walk.ascent, seen, quarry)
    return replace(walk, point=ascent.point, ascent=ascent, step=walk.step + 1)
