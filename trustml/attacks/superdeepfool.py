"""SuperDeepFool: DeepFool onto the border, then along it to where it is nearest, by turns."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._descent import see_margin
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._planes import onto_plane
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack


@dataclass(frozen=True, slots=True, eq=False)
class Approach:
    """Where a walk stands (B, *S)."""

    point: Tensor


@attack(
    source="Abdolahpourrostam et al. 2024, arXiv:2303.12481, algorithm 2 (SDF(∞, 1))",
    needs=Access.GRADIENTS,
    norms=("l2",),
    minimum_norm=True,
)
def superdeepfool(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 50,
    overshoot: float = 0.02,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win, drawn in; else the input itself.

    A point that has not won moves onto the plane where the margin would be 0, as in DeepFool; one
    that has won is exchanged for the input's foot on the plane through it. Not in the paper: moves
    stay in the box and reach the plane there, only the likeliest other class is gone to (one pass a
    look, not one for each class), and the walk goes on after its first foot that wins.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of the walk.
        overshoot: how much farther than to the plane a step goes.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, an overshoot below 0.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not overshoot >= 0:
        raise BadOption(
            f"superdeepfool: steps={steps} must be 1 or more and overshoot={overshoot} 0 or more"
        )

    def advance(walk: Approach, seen: Seen, quarry: Quarry, nearest: Nearest) -> Approach:
        flat, slope = seen.point.flatten(1), seen.gradient.flatten(1)
        home, won = quarry.x.flatten(1), seen.reached[:, None]
        along = (slope.double() * (flat.double() - home.double())).sum(1)
        gap = torch.where(seen.reached, along, -(1 + overshoot) * seen.losses.double())
        start, box = torch.where(won, home, flat), (quarry.threat.low, quarry.threat.high)
        move = onto_plane(start, slope, gap.to(flat.dtype), "l2", box)
        return Approach((start + move).clamp(*box).view_as(seen.point))

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=lambda quarry, nearest: Approach(quarry.x),
        see=see_margin, advance=advance, steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    return answer(drawn_in(model, quarry, nearest, stop_inside=stop_inside), quarry)
