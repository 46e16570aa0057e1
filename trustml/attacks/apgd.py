"""Auto-PGD: projected gradient ascent that sets its own step sizes."""

from dataclasses import replace

from torch import Tensor

from trustml.attacks._adaptive import adaptive_walk
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import at_rest
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack


@attack(
    source="Croce & Hein 2020, arXiv:2003.01690; L1: Croce & Hein 2021, arXiv:2103.01208",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def apgd(
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
    passes: int = 1,
) -> Tensor:
    """Return the best points (B, *S) of walks whose steps halve when they stop paying.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        steps: moves of one walk.
        restarts: walks for each sample that no earlier walk has won.
        loss: what is climbed.
        passes: forward and backward passes a step, whose losses are averaged, for a model that
            answers at random; a point has won where all of them are what the attacker wants.

    Raises:
        BadOption: a count below 1.
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, restarts, passes) < 1:
        raise BadOption(
            f"apgd: steps={steps}, restarts={restarts} and passes={passes} must be 1 or more"
        )

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    whole = Quarry(x, y, threat, random, passes=passes)
    best = at_rest(model, whole)
    for restart in range(restarts):
        quarry = replace(whole, random=random.fold(restart))
        best = adaptive_walk(model, quarry, best, loss=climbed, steps=steps)
    return threat.project(best.point, x)
