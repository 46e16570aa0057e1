"""Virtual adversarial direction: the one in which the answers change most, found without labels."""

from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from trustml.attacks._ascent import with_room
from trustml.attacks._losses import divergence
from trustml.attacks._pursuit import Seen, at_rest, clean_answers, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import diameter, pull, steepest
from trustml.registry import attack


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Where a search looks (B, *S), the direction (B, *S) that led there, and moves so far."""

    point: Tensor
    way: Tensor
    step: int = 0


@attack(
    source="Miyato et al. 2018, arXiv:1704.03976, section 3.3, algorithm 1",
    needs=Access.GRADIENTS,
    norms=("l2",),
    targeted=False,
)
def virtual_adversarial(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 10,
    xi: float = 0.1,
) -> Tensor:
    """Return the points (B, *S) a whole budget along the direction of the most divergence.

    Power iteration: a short way off, the gradient of KL(clean ‖ moved) is the Hessian times that
    way. Its sign is left to chance, so the way back is tried too; entries that stand at their wall
    already get no share of the budget. Neither is in the paper.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, which only tell when a sample is done.
        threat: the ball, the box and the goal.
        random: the samples' random numbers, for the first direction.
        steps: power iterations.
        xi: length of the short way, as a share of the budget, above 0 and up to 1. Too short, and
            the divergence drowns in rounding.

    Raises:
        BadOption: steps below 1, or xi out of its range.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not 0 < xi <= 1:
        raise BadOption(
            f"virtual_adversarial: steps={steps} must be 1 or more, xi={xi} above 0 and up to 1"
        )
    quarry = Quarry(x, y, threat, random, clean=clean_answers(model, x))
    best = pursue(
        model, quarry, at_rest(model, quarry), begin=partial(_begin, xi=xi),
        advance=partial(_advance, xi=xi, steps=steps), loss=_climbed, steps=steps + 1,
    )  # fmt: skip
    return threat.project(best.point, x)


def _climbed(logits: Tensor, quarry: Quarry) -> Tensor:
    assert quarry.clean is not None
    return divergence(logits, quarry.clean)


def _begin(quarry: Quarry, xi: float) -> Probe:
    x = quarry.x
    way = quarry.random.normal(tuple(x.shape[1:]), "direction").to(x.dtype)
    return Probe(_along(way, quarry, xi), way)


def _advance(walk: Probe, seen: Seen, quarry: Quarry, xi: float, steps: int) -> Probe:
    """Return the next direction's probe; after the last one its end, and then the opposite one."""
    step = walk.step + 1
    if step > steps:
        return replace(walk, point=_along(-walk.way, quarry, 1.0), step=step)
    way = seen.gradient
    return Probe(_along(way, quarry, xi if step < steps else 1.0), way, step)


def _along(way: Tensor, quarry: Quarry, share: float) -> Tensor:
    """Return the allowed points (B, *S) so many budgets along the way."""
    x, threat = quarry.x, quarry.threat
    widest = diameter("l2", threat.high - threat.low, x[0].numel())
    epsilon = threat.budget(x).clamp(max=widest)
    move = steepest(with_room(way, x, quarry), "l2") * (share * epsilon).to(x.dtype)
    return pull(x + move, x, "l2", epsilon, (threat.low, threat.high))
