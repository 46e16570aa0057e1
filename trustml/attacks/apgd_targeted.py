"""Auto-PGD towards each of the likeliest wrong classes in turn."""

from dataclasses import replace

from torch import Tensor

from trustml.attacks._adaptive import adaptive_walk
from trustml.attacks._losses import dlr_towards
from trustml.attacks._pursuit import at_rest, likeliest_others
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack


@attack(
    source="Croce & Hein 2020, arXiv:2003.01690, §4; L1: Croce & Hein 2021, arXiv:2103.01208",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
    targeted=False,
)
def apgd_targeted(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    passes: int = 1,
) -> Tensor:
    """Return the best points (B, *S) of walks towards each wrong class, likeliest first.

    The loss is the targeted DLR (with fewer than 4 classes its numerator); any wrong answer wins.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels.
        threat: the ball and the box.
        random: the samples' random numbers.
        steps: moves of one walk.
        restarts: walks to each target for each sample that no earlier walk has won.
        targets: wrong classes tried at most.
        passes: forward and backward passes a step, whose losses are averaged, for a model that
            answers at random; a point has won where all of them are misread.

    Raises:
        BadOption: a count below 1.
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, restarts, targets, passes) < 1:
        raise BadOption(
            f"apgd_targeted: steps={steps}, restarts={restarts}, targets={targets}, "
            f"passes={passes}: 1 or more each"
        )

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        assert quarry.target is not None
        return dlr_towards(logits, quarry.y, quarry.target)

    whole = Quarry(x, y, threat, random, passes=passes)
    best, others = at_rest(model, whole), likeliest_others(model, x, y)
    for restart in range(restarts):
        for rank, target in enumerate(others[:, :targets].unbind(1)):
            numbers = random.fold(restart).fold(rank)
            quarry = replace(whole, random=numbers, target=target)
            best = adaptive_walk(model, quarry, best, loss=climbed, steps=steps)
    return threat.project(best.point, x)
