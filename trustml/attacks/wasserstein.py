"""Brightness moved along the flow that climbs the loss most: projected ascent in flow space."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._judge import check_counts
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Seen, at_rest, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.measures._transport import Flow, along
from trustml.measures.wasserstein import affordable
from trustml.registry import attack


@attack(
    source="Wong, Schmidt & Kolter 2019, arXiv:1902.07906 (the threat); Levine & Feizi 2020, "
    "arXiv:1910.10783 (flows); Zalesak 1979, doi:10.1016/0021-9991(79)90051-2 (limits)",
    needs=Access.GRADIENTS,
    norms=("wasserstein",),
)
def wasserstein(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 60,
    step: float = 0.25,
    loss: LossName = "margin",
) -> Tensor:
    """Return images (B, C, H, W) whose brightness has flowed, within the work allowed.

    The flow between neighbours climbs the loss, is cut to the L1 ball of the work, and then to what
    each pixel has to give and room to take.

    Args:
        model: gives logits with a gradient.
        x: images (B, C, H, W) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the work a unit of mass, the box and the goal.
        random: the samples' random numbers.
        steps: moves of the walk.
        step: the most that the first move adds to an edge, in sides of the box; it falls to a
            tenth.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a step that is not above 0.
        NotApplicable: the model's answers have no gradient.
    """
    check_counts("wasserstein", steps=steps)
    if not step > 0:
        raise BadOption(f"wasserstein: step={step} must be above 0, in sides of the box")

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    def advance(walk: _Walk, seen: Seen, quarry: Quarry) -> _Walk:
        return _advance(walk, seen, quarry, step, steps)

    quarry = Quarry(x, y, threat, random)
    best = at_rest(model, quarry)
    best = pursue(model, quarry, best, begin=_begin, advance=advance, loss=climbed, steps=steps)
    return threat.project(best.point, x)


@dataclass(frozen=True, slots=True, eq=False)
class _Walk:
    """The image, the flow that made it, in float64, and how old the walk is (B,)."""

    point: Tensor
    right: Tensor
    down: Tensor
    age: Tensor


def _begin(quarry: Quarry) -> _Walk:
    wide = quarry.x.double()
    still = along(torch.zeros_like(wide))
    return _Walk(quarry.x, still.right, still.down, torch.zeros_like(quarry.y))


def _advance(walk: _Walk, seen: Seen, quarry: Quarry, step: float, steps: int) -> _Walk:
    x, threat, box = quarry.x, quarry.threat, (quarry.threat.low, quarry.threat.high)
    slope, wide = along(seen.gradient.double()), x.double()
    top = torch.cat([slope.right.flatten(1), slope.down.flatten(1)], 1).abs().amax(1)
    work = affordable(x, threat.budget(x), box)
    # All samples of a call are of one age; a small budget is not to be leapt over.
    fall = 1 - 0.9 * int(walk.age[0]) / (steps + 1) if len(walk.age) else 1.0
    length = step * fall * work.clamp(max=box[1] - box[0]) / top.clamp_min(1e-300)
    flow = Flow(walk.right, walk.down).plus(slope, length.view(-1, 1, 1, 1))
    flow = flow.within(work).allowed(wide, box)
    low, high = (float(value) for value in x.new_tensor(box))
    point = (wide + flow.change()).to(x.dtype).clamp(low, high)
    return _Walk(point, flow.right, flow.down, walk.age + 1)
