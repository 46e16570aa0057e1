"""Projected ascent where nearness is what an eye sees: colours, or the likeness of structure."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._judge import check_counts
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Seen, at_rest, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.measures import colour, structure
from trustml.registry import attack

_PROJECTIONS = {"colour": colour.project, "structure": structure.project}
_ROUNDS = 10  # halvings on the way; the end is projected in full


@attack(
    source="Zhao, Liu & Larson 2020, arXiv:1911.02466 (CIEDE2000); Wang et al. 2004, "
    "doi:10.1109/TIP.2003.819861 (SSIM); Madry et al. 2018, arXiv:1706.06083 (the ascent)",
    needs=Access.GRADIENTS,
    norms=("colour", "structure"),
)
def perceptual(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 60,
    step: float = 0.5,
    loss: LossName = "margin",
) -> Tensor:
    """Return the best images (B, C, H, W) of a walk up the loss, brought back after each step.

    Args:
        model: gives logits with a gradient.
        x: images (B, C, H, W) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the difference allowed, the box and the goal.
        random: the samples' random numbers.
        steps: moves of the walk.
        step: length of the first move, in radii of the ball as a linear guess has it; it falls to
            a tenth.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a step that is not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    check_counts("perceptual", steps=steps)
    if not step > 0:
        raise BadOption(f"perceptual: step={step} must be above 0, in radii of the ball")

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    def advance(walk: _Walk, seen: Seen, quarry: Quarry) -> _Walk:
        return _advance(walk, seen, quarry, step, steps)

    quarry = Quarry(x, y, threat, random)
    best = at_rest(model, quarry)
    best = pursue(model, quarry, best, begin=_begin, advance=advance, loss=climbed, steps=steps)
    return threat.project(best.point, x)


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """Where the walk stands, and how old it is (B,)."""

    point: Tensor
    age: Tensor


def _begin(quarry: Quarry) -> _Walk:
    return _Walk(quarry.x, torch.zeros_like(quarry.y))


def _advance(walk: _Walk, seen: Seen, quarry: Quarry, step: float, steps: int) -> _Walk:
    x, threat, slope = quarry.x, quarry.threat, seen.gradient
    tiny, epsilon = torch.finfo(x.dtype).tiny, threat.budget(x)
    if threat.norm == "colour":  # type: ignore[comparison-overlap]
        # Each pixel has a ball of its own; from black to white it is 100 far.
        way = slope / slope.square().sum(1, keepdim=True).sqrt().clamp_min(tiny)
        radius = epsilon / 100 * 3**0.5
    else:
        # A change of root mean square 0.3 among contrasts of about that costs much of the likeness.
        top = slope.flatten(1).abs().amax(1).clamp_min(tiny)
        way = slope / like(top, x)
        way = way / like(way.flatten(1).square().mean(1).sqrt().clamp_min(tiny), x)
        radius = 0.3 * epsilon.sqrt()
    fall = 1 - 0.9 * int(walk.age[0]) / (steps + 1) if len(walk.age) else 1.0
    length = step * fall * (threat.high - threat.low) * radius
    moved, box = walk.point + length.to(x.dtype) * way, (threat.low, threat.high)
    return _Walk(_PROJECTIONS[threat.norm](moved, x, epsilon, box, rounds=_ROUNDS), walk.age + 1)
