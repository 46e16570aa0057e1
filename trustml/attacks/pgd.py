"""Projected gradient descent."""

from typing import Literal

import torch
from torch import Tensor

from trustml.attacks._ascent import Ascent, ascend, begin_ascent, settled
from trustml.attacks._losses import LOSSES, divergence
from trustml.attacks._pursuit import at_rest, clean_answers, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack

# How far all steps go, in epsilons. Balls of L2 and L1 are walked along their rim: of 64 images of
# three networks, 8 fooled up to 12 in 100 more than 2.5, and nowhere more than 2 in 100 fewer.
_WAY: dict[Norm, float] = {"linf": 2.5, "l2": 8.0, "l1": 8.0}


Climbed = Literal["cross_entropy", "margin", "dlr", "jitter", "divergence"]


@attack(
    source="Madry et al. 2018, arXiv:1706.06083; L1 step: Tramèr & Boneh 2019, arXiv:1904.13000; "
    "divergence: Zhang et al. 2019, arXiv:1901.08573, section 3.3 (TRADES)",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def pgd(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 40,
    step: float | None = None,
    restarts: int = 1,
    start: bool = True,
    loss: Climbed = "cross_entropy",
) -> Tensor:
    """Return the best points (B, *S) of walks by steepest steps up the loss, within the ball.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        steps: moves of one walk.
        step: length of a move in the threat's norm; by default 2.5 · epsilon / steps, in L2 and L1
            8 · epsilon / steps.
        restarts: walks for each sample that no earlier walk has won.
        start: begin at a random point of the ball; without, there is no use in restarts.
        loss: what is climbed; divergence is that of the answers from those to the clean inputs
            (TPGD), which needs no label but a random start: it is flat at the inputs.

    Raises:
        BadOption: a count below 1, a step that is not above 0, restarts without a random start, or
            divergence without one or towards a class.
        NotApplicable: the model's answers have no gradient.
    """
    _check(steps, step, restarts, start)
    if loss == "divergence" and (threat.targeted or not start):
        raise BadOption(
            "pgd: loss=divergence leads away from the clean answer, towards no class in particular "
            "and from a random start; take loss=cross_entropy"
        )

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        if loss != "divergence":
            return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)
        assert quarry.clean is not None
        return divergence(logits, quarry.clean)

    def begin(quarry: Quarry) -> Ascent:
        return begin_ascent(quarry, step_length(quarry, step, steps), start)

    clean = clean_answers(model, x) if loss == "divergence" else None
    best = at_rest(model, Quarry(x, y, threat, random, clean=clean))
    for restart in range(restarts):
        quarry = Quarry(x, y, threat, random.fold(restart), clean=clean)
        best = pursue(model, quarry, best, begin=begin, advance=ascend, loss=climbed, steps=steps)
    return settled(best.point, quarry)


def step_length(quarry: Quarry, step: float | None, steps: int, way: float | None = None) -> Tensor:
    """Return the length of a move, broadcastable over x: as given, or way · epsilon / steps."""
    if step is not None:
        return torch.tensor(step, dtype=torch.float64, device=quarry.x.device)
    return quarry.threat.budget(quarry.x) * ((way or _WAY[quarry.threat.norm]) / steps)


def _check(steps: int, step: float | None, restarts: int, start: bool) -> None:
    if steps < 1 or restarts < 1:
        raise BadOption(f"pgd: steps={steps} and restarts={restarts} must be 1 or more")
    if step is not None and not step > 0:
        raise BadOption(f"pgd: step={step} must be above 0; or leave it out")
    if restarts > 1 and not start:
        raise BadOption(f"pgd: restarts={restarts} with start=false would repeat the same walk")
