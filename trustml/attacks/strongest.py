"""The default ensemble: cheap gradient walks first, then windows and walks by turns."""

from functools import partial
from typing import Any

from torch import Tensor

from trustml.attacks._alternation import alternate
from trustml.attacks._in_turn import Stage, in_turn
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.contracts import Access, Attack, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack


@attack(
    source="trustml; of APGD (arXiv:2003.01690, L1 arXiv:2103.01208) and Square (arXiv:1912.00049)",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def strongest(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 20,
    targets: int = 2,
    rounds: int = 3,
    more: int = 0,
    bursts: int = 4,
) -> Tensor:
    """Return the points (B, *S) of the first stage that wins, the cheapest stage first.

    A short APGD walk on the margin, short ones towards the likeliest wrong classes, and then, where
    gradients have failed, random windows and short gradient walks by turns from several starts. In
    L1, where windows are of no use, longer walks take their place.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        steps: moves of each short walk.
        targets: wrong classes that short walks aim at.
        rounds: starts of the search by turns (L1: longer walks).
        more: further starts for samples that are near to being won by then (not in L1).
        bursts: turns of 64 windows and one walk after each start (L1: times 50 moves).

    Raises:
        BadOption: a count below 1 (targets: below 0).
        NotApplicable: the model's answers have no gradient.
        MethodFailed: the model answers NaN.
    """
    if min(steps, rounds, bursts, targets + 1, more + 1) < 1:
        raise BadOption(
            f"strongest: steps={steps}, rounds={rounds}, bursts={bursts} must be 1 or more, "
            f"targets={targets} and more={more} 0 or more"
        )
    stages = [_stage(apgd, steps=steps, loss="margin")]
    if targets and not threat.targeted:
        stages.append(_stage(apgd_targeted, steps=steps, targets=targets))
    if threat.norm == "l1":
        stages.append(_stage(apgd, steps=50 * bursts, restarts=rounds, loss="margin"))
    else:
        stages.append(partial(alternate, rounds=rounds, more=more, bursts=bursts))
    return in_turn(model, x, y, threat, random, stages)


def _stage(method: Attack, **options: Any) -> Stage:
    def run(model: Classifier, x: Tensor, y: Tensor, threat: Threat, random: Random) -> Tensor:
        return method(model, x, y, threat, random=random, **options)

    return run
