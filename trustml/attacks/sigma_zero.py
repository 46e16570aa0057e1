"""σ-zero: descent on a smooth count of changed entries, small ones put back."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._descent import annealed, see_margin, side, unit
from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

# An entry that moved by m widths of the box counts as m² / (m² + σ).
_SIGMA = 0.001
# Forward passes in the end to put entries back; not in the paper.
_TRIES = 20
_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Where a walk stands.

    Args:
        point: (B, *S).
        mean: Adam's mean (B, *S) of slopes; `square` of their squares.
        least: (B,) the least size that an entry's move may have, in widths of the box.
        step: moves so far.
    """

    point: Tensor
    mean: Tensor
    square: Tensor
    least: Tensor
    step: int = 0


@attack(
    source="Cinà et al. 2025, arXiv:2402.01879, algorithm 1",
    needs=Access.GRADIENTS,
    norms=("l0",),
    minimum_norm=True,
)
def sigma_zero(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 1000,
    rate: float = 1.0,
    least: float = 0.2,
    change: float = 0.01,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of the walk.
        rate: Adam's first step, in widths of the box; the last is a tenth.
        least: entries that moved less are put back, in widths of the box; to begin with.
        change: what `least` grows by, times the step, after a look that won, and falls by after one
            that did not.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a rate or change not above 0, a least not in [0, 1).
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not min(rate, change) > 0 or not 0 <= least < 1:
        raise BadOption(
            f"sigma_zero: steps={steps} must be 1 or more, rate={rate} and change={change} "
            f"above 0, least={least} in [0, 1)"
        )

    def begin(quarry: Quarry, nearest: Nearest) -> Sparse:
        still = torch.zeros_like(quarry.x)
        return Sparse(quarry.x, still, still, torch.full_like(nearest.distance, least))

    def advance(walk: Sparse, seen: Seen, quarry: Quarry, nearest: Nearest) -> Sparse:
        pace = annealed(rate, rate / 10, walk.step, steps)
        walk = _moved(walk, seen, quarry, pace)
        # Winners can do with fewer entries, the others need more.
        floor = walk.least + change * pace * torch.where(seen.reached, 1.0, -1.0)
        return _put_back(replace(walk, least=floor.clamp(0.0, 1.0)), quarry)

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=begin, see=see_margin, advance=advance,
        steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    nearest = thinned(model, quarry, nearest, _TRIES, stop_inside=stop_inside)
    return answer(nearest, quarry)


def _moved(walk: Sparse, seen: Seen, quarry: Quarry, pace: float) -> Sparse:
    """Return the walk one step of Adam further down Σ m² / (m² + σ) / D + max(−lead, 0)."""
    wide, threat = side(quarry.threat), quarry.threat
    move = (walk.point - quarry.x) / wide
    crowd = 2 * _SIGMA * move / (move.square() + _SIGMA).square() / move[0].numel()
    # Once a point has won there is nothing to be climbed: only the count pulls.
    drive = seen.gradient.masked_fill(like(seen.reached, move), 0.0) * wide
    slope = unit(drive - crowd, "linf")
    mean = _MEAN * walk.mean + (1 - _MEAN) * slope
    square = _SQUARE * walk.square + (1 - _SQUARE) * slope.square()
    step = walk.step + 1
    size = (square / (1 - _SQUARE**step)).sqrt() + _TINY
    onward = walk.point + wide * pace / (1 - _MEAN**step) * mean / size
    point = onward.clamp(threat.low, threat.high)
    return replace(walk, point=point, mean=mean, square=square, step=step)


def _put_back(walk: Sparse, quarry: Quarry) -> Sparse:
    """Return the walk with the entries that hardly moved where the inputs have them."""
    least = like((walk.least * side(quarry.threat)).to(walk.point.dtype), walk.point)
    small = (walk.point - quarry.x).abs() < least
    return replace(walk, point=torch.where(small, quarry.x, walk.point))
