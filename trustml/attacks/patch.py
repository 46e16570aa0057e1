"""A patch for each image: where its gradient gains most, then drawn by steps along the sign."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trustml.attacks._judge import check_counts
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Seen, at_rest, look, pursue
from trustml.attacks._quarry import Quarry
from trustml.beyond import drawn
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.measures.patch import best_rectangle, pixels
from trustml.registry import attack

_MOMENTUM = 0.9


@attack(
    source="Brown et al. 2017, arXiv:1712.09665; Karmon et al. 2018, arXiv:1801.02608 (an image's "
    "own patch and place); Athalye et al. 2018, arXiv:1707.07397 (EOT)",
    needs=Access.GRADIENTS,
    norms=("patch",),
)
def patch(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 60,
    step: float = 0.25,
    restarts: int = 3,
    slip: int = 0,
    loss: LossName = "margin",
) -> Tensor:
    """Return images (B, C, H, W) behind one rectangle each, of any shape, at the best place found.

    A place is chosen by a gradient: of all rectangles allowed, the one in which the loss would gain
    most if it were linear. The first walk looks at the image, others at a random patch on it.

    Args:
        model: gives logits with a gradient.
        x: images (B, C, H, W) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the share of the area, the box and the goal.
        random: the samples' random numbers.
        steps: moves of one walk.
        step: length of the first move, in sides of the box; it falls to nothing.
        restarts: walks for each sample that no earlier walk has won.
        slip: pixels by which the patch may slip each way: it must win wherever it ends, and losses
            are averaged over all ends (EOT).
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, a step that is not above 0, a slip that leaves a patch no room.
        NotApplicable: the model's answers have no gradient.
    """
    check_counts("patch", steps=steps, restarts=restarts)
    if not step > 0:
        raise BadOption(f"patch: step={step} must be above 0, in sides of the box")
    if slip < 0 or 2 * slip >= min(x.shape[2:]):
        raise BadOption(
            f"patch: slip={slip} does not fit: images of {x.shape[2]}×{x.shape[3]} leave a patch "
            f"{(min(x.shape[2:]) - 1) // 2} pixels to slip, and none below 0"
        )
    best = at_rest(model, Quarry(x, y, threat, random))
    for restart in range(restarts):
        quarry = Quarry(x, y, threat, random.fold(restart))
        best = pursue(
            model, quarry, best, loss=_climbed(loss), steps=steps,
            begin=partial(_begin, first=restart == 0),
            advance=lambda walk, seen, hunted: _advance(walk, seen, hunted, (step, steps, slip)),
            see=(lambda m, walk, hunted: _slipping(m, walk, hunted, loss, slip)) if slip else None,
        )  # fmt: skip
    return threat.project(best.point, x)


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """A patched image, where the patch is (B, 1, H, W), its pace, and how old the walk is (B,)."""

    point: Tensor
    where: Tensor
    pace: Tensor
    age: Tensor


def _begin(quarry: Quarry, first: bool) -> _Walk:
    x = quarry.x
    point = x if first else quarry.threat.project(drawn(quarry.threat, x, quarry.random), x)
    nowhere = torch.zeros_like(x[:, :1], dtype=torch.bool)
    return _Walk(point, nowhere, torch.zeros_like(x), torch.zeros_like(quarry.y))


def _advance(walk: _Walk, seen: Seen, quarry: Quarry, how: tuple[float, int, int]) -> _Walk:
    """Return the walk a step on; the first step chooses the place and goes all the way there."""
    step, steps, slip = how
    x, threat, slope = quarry.x, quarry.threat, seen.gradient
    low, high = (float(value) for value in x.new_tensor([threat.low, threat.high]))
    extreme = torch.where(slope > 0, high, low).to(x.dtype)
    # All samples of a call are of one age.
    if not len(walk.age) or not int(walk.age[0]):
        gain = (slope.double() * (extreme.double() - x.double())).sum(1).clamp_min(0)
        where = best_rectangle(gain, pixels(threat.budget(x), x), slip)[:, None]
        return _Walk(extreme.where(where, x), where, torch.zeros_like(x), walk.age + 1)
    size = (slope * walk.where).abs().flatten(1).sum(1).clamp_min(torch.finfo(x.dtype).tiny)
    pace = _MOMENTUM * walk.pace + slope / like(size, x)
    length = step * (high - low) * (1 - int(walk.age[0]) / (steps + 1))
    moved = (walk.point + length * pace.sign()).clamp(low, high)
    return _Walk(moved.where(walk.where, x), walk.where, pace, walk.age + 1)


def _slipping(
    model: Classifier, walk: _Walk, quarry: Quarry, loss: LossName, slip: int
) -> tuple[_Walk, Seen]:
    """Return what is seen of the patch in all the places to which it may slip, as one look."""
    ways = range(-slip, slip + 1)
    here = look(model, walk.point, quarry, _climbed(loss))
    losses, gradient, reached, count = here.losses, here.gradient, here.reached, len(ways) ** 2
    for by in ((down, across) for down in ways for across in ways if down or across):
        where = walk.where.roll(by, (2, 3))
        moved = walk.point.roll(by, (2, 3)).where(where, quarry.x)
        seen = look(model, moved, quarry, _climbed(loss))
        losses, reached = losses + seen.losses, reached & seen.reached
        gradient = gradient + seen.gradient.roll((-by[0], -by[1]), (2, 3))
    return walk, Seen(here.point, here.logits, losses / count, gradient / count, reached)


def _climbed(loss: LossName) -> Callable[[Tensor, Quarry], Tensor]:
    return lambda logits, quarry: LOSSES[loss](logits, quarry.y, quarry.threat.targeted)
