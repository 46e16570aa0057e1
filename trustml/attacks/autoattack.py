"""AutoAttack: the published ensemble of parameter-free attacks."""

from typing import Any, Literal

from torch import Tensor

from trustml.attacks._in_turn import Stage, in_turn
from trustml.attacks._losses import LossName
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.attacks.fab import fab
from trustml.attacks.square import square
from trustml.contracts import Access, Attack, Classifier, Norm, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack

Version = Literal["standard", "plus", "rand"]


@attack(
    source="Croce & Hein 2020, arXiv:2003.01690; L1: Croce & Hein 2021, arXiv:2103.01208",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
    targeted=False,
)
def autoattack(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    version: Version = "standard",
    steps: int = 100,
    queries: int = 5000,
    passes: int = 20,
) -> Tensor:
    """Return the points (B, *S) of the first attack that wins; each sees what the others left.

    standard: APGD on the cross-entropy, then towards 9 targets, FAB towards 9 targets, Square.
    plus: APGD on the cross-entropy and on the DLR loss and FAB, 5 restarts each, Square, then APGD
    and FAB towards 9 targets.
    rand, for models that answer at random: APGD on the cross-entropy and on the DLR loss, each step
    along the mean gradient of 20 passes.

    With fewer than 4 classes (untargeted: 3) the DLR loss has no denominator and the plain margin
    is climbed. In L1, as published, standard has 5 restarts and 5 targets of APGD.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels.
        threat: the ball and the box.
        random: the samples' random numbers.
        version: the published schedule.
        steps: moves of each walk; 100 are published.
        queries: Square's queries; 5000 are published.
        passes: what rand averages over; 20 are published.

    Raises:
        BadOption: fewer than 1 step, 2 queries or 1 pass.
        NotApplicable: the model's answers have no gradient.
        MethodFailed: the model answers NaN.
    """
    if min(steps, passes, queries - 1) < 1:
        raise BadOption(
            f"autoattack: steps={steps} and passes={passes} must be 1 or more, queries={queries} "
            "2 or more"
        )
    if version == "rand":
        losses: tuple[LossName, ...] = ("cross_entropy", "dlr")
        stages = [_stage(apgd, steps=steps, loss=loss, passes=passes) for loss in losses]
    else:
        stages = _stages(version, threat.norm, steps, queries)
    return in_turn(model, x, y, threat, random, stages)


def _stages(version: Version, norm: Norm, steps: int, queries: int) -> list[Stage]:
    """Return the attacks of the version in their published order."""
    sparse = norm == "l1"
    walk_to = _stage(apgd_targeted, steps=steps, targets=5 if sparse else 9)
    border_to = _stage(fab, steps=steps, targets=9, stop_inside=True)
    windows = _stage(square, queries=queries)
    if version == "plus":
        again = [
            _stage(apgd, steps=steps, restarts=5),
            _stage(apgd, steps=steps, restarts=5, loss="dlr"),
            _stage(fab, steps=steps, restarts=5, stop_inside=True),
        ]
        return [*again, windows, walk_to, border_to]
    walk = _stage(apgd, steps=steps, restarts=5 if sparse else 1)
    return [walk, walk_to, border_to, windows]


def _stage(method: Attack, **options: Any) -> Stage:
    def run(model: Classifier, x: Tensor, y: Tensor, threat: Threat, random: Random) -> Tensor:
        return method(model, x, y, threat, random=random, **options)

    return run
