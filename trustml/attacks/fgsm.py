"""The fast gradient method: one steepest step to the edge of the ball."""

from torch import Tensor

from trustml.attacks._ascent import Ascent, ascend, begin_ascent
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import pursue, untouched
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.registry import attack
from trustml.threats import check_labels


@attack(
    source="Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572",
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
    loss: LossName = "cross_entropy",
) -> Tensor:
    """Return the points (B, *S) one steepest step of length epsilon away.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: not used.
        loss: what is climbed.

    Raises:
        BadInput: a label that is none of the model's classes.
        NotApplicable: the model's answers have no gradient.
    """

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        check_labels(logits, quarry.y)
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    def begin(quarry: Quarry) -> Ascent:
        return begin_ascent(quarry, quarry.threat.budget(quarry.x), start=False)

    quarry = Quarry(x, y, threat, random)
    best = pursue(
        model, quarry, untouched(quarry), begin=begin, advance=ascend, loss=climbed, steps=1
    )
    return threat.project(best.point, x)
