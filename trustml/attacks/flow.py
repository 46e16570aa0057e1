"""Flow: steepest steps up the loss, each pixel within the values that lie around it."""

from dataclasses import dataclass

from torch import Tensor

from trustml.attacks._judge import check_counts
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Seen, at_rest, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.measures._images import one_each
from trustml.measures.flow import reachable
from trustml.registry import attack


@dataclass(frozen=True, slots=True, eq=False)
class Flowing:
    """Where a walk stands, and the least and the largest value of each pixel, (B, 1, H, W)."""

    point: Tensor
    lower: Tensor
    upper: Tensor


@attack(
    source="Xiao et al. 2018, arXiv:1801.02612 (flows); Alaifari et al. 2019, arXiv:1804.07729 "
    "(their largest move); Madry et al. 2018, arXiv:1706.06083 (the ascent)",
    needs=Access.GRADIENTS,
    norms=("flow",),
)
def flow(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 40,
    step: float = 0.1,
    restarts: int = 1,
    loss: LossName = "margin",
) -> Tensor:
    """Return the best images (B, 1, H, W) of walks up the loss that a flow of places can make.

    The values that a pixel can show are all those from the least to the largest around it, whatever
    others show. So the walk needs no flow: it moves in a box, by shares of its sides.

    Args:
        model: gives logits with a gradient.
        x: images (B, 1, H, W) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: how far a pixel may look, the box and the goal.
        random: the samples' random numbers, for the starts of all walks but the first.
        steps: moves of one walk.
        step: length of a move, as a share of what lies between a pixel's least and largest value.
        restarts: walks for each sample that no earlier walk has won; the first begins at the input.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a step that is not above 0.
        NotApplicable: no images of one channel, or the model's answers have no gradient.
    """
    check_counts("flow", steps=steps, restarts=restarts)
    if not step > 0:
        raise BadOption(f"flow: step={step} must be above 0, a share of a pixel's range")

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    def advance(walk: Flowing, seen: Seen, quarry: Quarry) -> Flowing:
        move = seen.gradient.sign() * (step * (walk.upper - walk.lower))
        point = (walk.point + move).clamp(walk.lower, walk.upper)
        return Flowing(point, walk.lower, walk.upper)

    best = at_rest(model, Quarry(x, y, threat, random))
    for restart in range(restarts):
        quarry = Quarry(x, y, threat, random.fold(restart))
        best = pursue(
            model, quarry, best, begin=_from_the_input if restart == 0 else _from_anywhere,
            advance=advance, loss=climbed, steps=steps,
        )  # fmt: skip
    return threat.project(best.point, x)


def _from_the_input(quarry: Quarry) -> Flowing:
    x = quarry.x
    lower, upper = reachable(x, one_each(quarry.threat.budget(x), x))
    return Flowing(x, lower.to(x.dtype), upper.to(x.dtype))


def _from_anywhere(quarry: Quarry) -> Flowing:
    walk = _from_the_input(quarry)
    share = quarry.random.uniform(tuple(quarry.x.shape[1:]), "start").to(quarry.x.dtype)
    return Flowing(walk.lower + share * (walk.upper - walk.lower), walk.lower, walk.upper)
