"""The fast gradient method: one steepest step to the edge of the ball."""

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._answers import unwon
from trustml.attacks._ascent import ascend, begin_ascent, settled
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import look
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack
from trustml.threats import check_labels

# The step from a random point, in epsilons: beyond the middle of the ball.
_BEYOND = 1.25


@attack(
    source="Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572; with a random start: Wong et al. "
    "2020, arXiv:2001.03994",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def fgsm(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    step: float | None = None,
    start: bool = False,
    loss: LossName = "cross_entropy",
) -> Tensor:
    """Return the points (B, *S) one steepest step away.

    One pass forward and one back: those that already are where the attacker wants them stay, and
    nobody looks at where the others come to.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers, for a random start.
        step: length of the step in the threat's norm; by default epsilon, from a random point 1.25
            epsilon (Wong et al. 2020).
        start: begin at a random point of the ball.
        loss: what is climbed.

    Raises:
        BadOption: a step that is not above 0.
        BadInput: a label that is none of the model's classes.
        NotApplicable: the model's answers have no gradient.
    """
    if step is not None and not step > 0:
        raise BadOption(f"fgsm: step={step} must be above 0; or leave it out")

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        check_labels(logits, quarry.y)
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    quarry = Quarry(x, y, threat, random)
    length = torch.full_like(threat.budget(x), step) if step else threat.budget(x)
    walk = begin_ascent(quarry, _BEYOND * length if start and not step else length, start)
    with frozen(model):
        seen = look(model, walk.point, quarry, climbed)
    rows = unwon(seen.losses.masked_fill(seen.reached, torch.inf), seen.losses)
    after = ascend(walk, seen, quarry).point
    if len(rows) < len(x):
        after = seen.point.index_copy(0, rows, after[rows])
    return settled(after, quarry)
