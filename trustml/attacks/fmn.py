"""Fast minimum-norm attack: gradient steps in a ball whose radius follows the answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._descent import DUAL, TINY, annealed, length, see_margin, side, unit
from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import diameter, distance, like, pull
from trustml.registry import attack

# The first step (widths of the box) and the first change that do best, near those of the paper's
# grid (rates 1, 5, 10; changes 0.05, 0.3).
_RATE: dict[Norm, float] = {"linf": 10.0, "l2": 1.0, "l1": 10.0, "l0": 10.0}
_CHANGE: dict[Norm, float] = {"linf": 0.3, "l2": 0.1, "l1": 0.3, "l0": 0.3}
# The border itself is not beyond it, and what is pulled into a ball lies a hair inside.
_OVERSHOOT = 1.01
# Forward passes in the end to put entries back (L0); not in the paper.
_TRIES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Ball:
    """Where a walk stands (B, *S), in balls of `radius` (B,) around the inputs; its step."""

    point: Tensor
    radius: Tensor
    step: int = 0


@attack(
    source="Pintor et al. 2021, arXiv:2102.12827, algorithm 1",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1", "l0"),
    minimum_norm=True,
)
def fmn(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    rate: float | None = None,
    change: float | None = None,
    last_change: float = 0.001,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    Until a point has won the ball reaches to where the border were if the margin was affine; from
    then on it shrinks after a look that won and grows after one that did not.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks.
        rate: length (L2) of the first step, in widths of the box; the last is a hundredth. By
            default 1 for L2, else 10.
        change: the share by which a ball grows or shrinks, at first (L2: 0.1, else 0.3).
        last_change: the same in the end.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a rate not above 0, a change not between 0 and 1.
        NotApplicable: the model's answers have no gradient.
    """
    rate = _RATE[threat.norm] if rate is None else rate
    change = _CHANGE[threat.norm] if change is None else change
    if steps < 1 or not rate > 0:
        raise BadOption(f"fmn: steps={steps} must be 1 or more and rate={rate} above 0")
    if not 0 < last_change <= change < 1:
        need = "must be in (0, 1), the second no more than the first"
        raise BadOption(f"fmn: change={change} and last_change={last_change} {need}")

    def advance(walk: Ball, seen: Seen, quarry: Quarry, nearest: Nearest) -> Ball:
        radius = _radius(
            walk, seen, quarry, nearest, annealed(change, last_change, walk.step, steps)
        )
        pace = annealed(rate, rate / 100, walk.step, steps) * side(quarry.threat)
        point = _on_ball(seen.point + pace * unit(seen.gradient), radius, quarry)
        return Ball(point, radius, walk.step + 1)

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=_begin, see=see_margin, advance=advance,
        steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    if threat.norm == "l0":
        nearest = thinned(model, quarry, nearest, _TRIES, stop_inside=stop_inside)
    return answer(nearest, quarry)


def _begin(quarry: Quarry, nearest: Nearest) -> Ball:
    return Ball(quarry.x, torch.full_like(nearest.distance, torch.inf))


def _on_ball(onward: Tensor, radius: Tensor, quarry: Quarry) -> Tensor:
    """Return the points (B, *S) pulled into the balls; L2: put onto their spheres."""
    norm, box = quarry.threat.norm, (quarry.threat.low, quarry.threat.high)
    if norm == "l2":
        # A short step would never reach the border of a ball that grows faster.
        move = onward - quarry.x
        wide = radius / length(move, norm).clamp_min(TINY)
        onward = quarry.x + like(wide.to(move.dtype), move) * move
    return pull(onward, quarry.x, norm, like(radius, onward), box)


def _radius(walk: Ball, seen: Seen, quarry: Quarry, nearest: Nearest, change: float) -> Tensor:
    """Return the radius (B,) of the next step's balls."""
    norm, old = quarry.threat.norm, walk.radius
    less, more = old * (1 - change), old * (1 + change)
    if norm == "l0":
        # By one entry at least, or the radius would never change.
        less, more = torch.minimum(less.floor(), old - 1), torch.maximum(more.floor(), old + 1)
    found = nearest.distance < torch.inf
    far = distance(seen.point, quarry.x, norm) if nearest.last is None else nearest.last
    reach = (far + _gap(seen, quarry)) * _OVERSHOOT
    # Where the slope misleads, the reach may come to nothing: the ball grows all the same.
    outer = torch.where(found | (reach < more) & (old < torch.inf), more, reach)
    radius = torch.where(seen.reached, torch.minimum(less, nearest.distance), outer)
    widest = diameter(norm, side(quarry.threat), quarry.x[0].numel())
    return radius.clamp(1.0 if norm == "l0" else 0.0, widest)


def _gap(seen: Seen, quarry: Quarry) -> Tensor:
    """Return how far (B,) the border is from the points, were the margin affine."""
    norm, lacking = quarry.threat.norm, seen.losses.double().abs()
    if norm != "l0":
        return lacking / length(seen.gradient, DUAL[norm]).clamp_min(TINY)
    wall = torch.where(seen.gradient > 0, quarry.threat.high, quarry.threat.low)
    gain = (seen.gradient * (wall - seen.point)).flatten(1).double()
    climbed = gain.sort(dim=1, descending=True).values.cumsum(1)
    return (climbed < lacking[:, None]).sum(1).double() + 1
