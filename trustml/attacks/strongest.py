"""The default ensemble: cheap gradient walks first, then windows and walks by turns."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._alternation import NEAR, alternate
from trustml.attacks._in_turn import Stage, in_turn
from trustml.attacks._losses import margin
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.contracts import Access, Attack, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack

# Wrong classes that the last walks aim at, as in AutoAttack.
_LAST_TARGETS = 9


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
    steps: int = 10,
    targets: int = 2,
    rounds: int = 1,
    more: int = 8,
    bursts: int = 6,
) -> Tensor:
    """Return the points (B, *S) of the first stage that wins, the cheapest stage first.

    A short APGD walk on the margin, short ones towards the likeliest wrong classes, and then, where
    gradients have failed, random windows and short gradient walks by turns: from one start for
    every sample, and from several side by side for those that are near to being won by then. What
    is near and still stands is walked towards every class. In L1, where windows are of no use,
    longer walks take their place.

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
        BadOption: a count below 1 (targets, more: below 0).
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
        search = partial(alternate, rounds=rounds, more=more, bursts=bursts)
        last = _stage(apgd_targeted, steps=4 * steps, targets=_LAST_TARGETS)
        aimed = targets and not threat.targeted
        stages.append(partial(_searched, search=search, walks=last if aimed else None))
    return in_turn(model, x, y, threat, random, stages)


def _searched(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    random: Random,
    search: Stage,
    walks: Stage | None,
) -> Tensor:
    """Return what the search found, and for samples that are near then, what the walks find."""
    found = search(model, x, y, threat, random)
    if walks is None:
        return found
    with frozen(model), torch.no_grad():
        before, after = (margin(model(point), y, False) for point in (x, found))
    near = ((after < 0) & (after >= NEAR * before)).nonzero()[:, 0]
    if len(near):
        part = at(model, near)
        last = walks(part, x[near], y[near], threat.at(near), random.at(near).fold(1))
        with frozen(model), torch.no_grad():
            won = threat.at(near).reached(part(last), y[near])
        found = found.index_put((near[won],), last[won])
    return found


def _stage(method: Attack, **options: Any) -> Stage:
    def run(model: Classifier, x: Tensor, y: Tensor, threat: Threat, random: Random) -> Tensor:
        return method(model, x, y, threat, random=random, **options)

    return run
