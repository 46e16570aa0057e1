"""NewtonFool: Newton steps that bring the own class's probability down to that of a guess."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._descent import TINY, length, side, unit
from trustml.attacks._losses import cross_entropy
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._pursuit import Seen, look
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack
from trustml.threats import Lp

# A Newton step would end right on the border of two classes.
_OVERSHOOT = 1.02


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where a walk stands (B, *S)."""

    point: Tensor


@attack(
    source="Jang et al. 2017, doi:10.1145/3134600.3134635, algorithm 1",
    needs=Access.GRADIENTS,
    norms=("l2",),
    minimum_norm=True,
    targeted=False,
)
def newton_fool(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    rate: float = 1.0,
) -> Tensor:
    """Return the first points (B, *S) that win, drawn in; the input itself where none does.

    Not in the paper: steps go 2 % beyond, the way back is halved in the end, and an input counts as
    one side of the box long at least, for a black image would never move.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels.
        threat: the norm and the box; the budget does not matter.
        random: not used.
        steps: looks at most; a sample is done when it has won.
        rate: the longest step, in lengths of the input. The paper's 0.01 gets stuck on a network
            that was trained adversarially.

    Raises:
        BadOption: steps below 1, a rate not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not rate > 0:
        raise BadOption(f"newton_fool: steps={steps} must be 1 or more and rate={rate} above 0")
    # With every point allowed, whoever has won is inside and may leave.
    quarry = Quarry(x, y, Lp(threat.norm, math.inf, threat.low, threat.high), random)

    def advance(walk: Descent, seen: Seen, quarry: Quarry, nearest: Nearest) -> Descent:
        onward = seen.point + _newton(seen, quarry, rate)
        onward = onward.clamp(quarry.threat.low, quarry.threat.high)
        return Descent(torch.where(like(seen.reached, onward), seen.point, onward))

    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=lambda quarry, nearest: Descent(quarry.x),
        see=_see, advance=advance, steps=steps, stop_inside=True, every=1,
    )  # fmt: skip
    return answer(drawn_in(model, quarry, nearest), Quarry(x, y, threat, random))


def _see(model: Classifier, walk: Descent, quarry: Quarry) -> Seen:
    return look(model, walk.point, quarry, lambda logits, quarry: cross_entropy(logits, quarry.y))


def _newton(seen: Seen, quarry: Quarry, rate: float) -> Tensor:
    """Return the moves (B, *S) along which the probability p would fall to 1 / K, were it affine.

    Written with log p, whose slope is that of p over p: where p is all but 1 that of p is 0.
    """
    steep = length(seen.gradient, "l2").clamp_min(TINY)
    share = 1 - seen.losses.double().exp() / seen.logits.shape[1]
    longest = rate * length(quarry.x, "l2").clamp_min(side(quarry.threat))
    size = torch.minimum(longest, _OVERSHOOT * share.clamp_min(0) / steep)
    return like(size.to(seen.point.dtype), seen.point) * unit(seen.gradient)
