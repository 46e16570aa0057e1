"""Brendel & Bethge: along the border, nearer to the input, by small steps that are trusted."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._border_moves import Programme, nearer_on_border
from trustml.attacks._decision import Oracle, begin
from trustml.attacks._descent import annealed, see_margin, side
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.registry import attack
from trustml.threats import Lp

# Where gradients lead across the border: steps and their length in sides of the box. Where they do
# not: points tried at random. Halvings of the way back. Tries to put entries back (L0).
_STEPS, _STRIDE, _DRAWS, _HALVINGS, _TRIES = 20, 0.1, 20, 10, 20
# A step goes so much farther than to the border where it is short of it, else so much less far.
_OVER, _UNDER = 1.1, 0.9
# The last radius over the first; the least first one in L1 and L0, in sides.
_LAST, _FAR = 1e-3, 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Following:
    """Where a walk stands (B, *S); its border's normal (B, *S), of late; the first radius (B,)."""

    point: Tensor
    normal: Tensor
    radius: Tensor
    step: int = 0


@attack(
    source="Brendel et al. 2019, arXiv:1907.01003",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1", "l0"),
    minimum_norm=True,
)
def brendel_bethge(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 200,
    rate: float | None = None,
    momentum: float = 0.0,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) met on walks along the border; the input where none is.

    Each step solves a small programme: nearest to the input on the plane that the border is locally
    taken for, within the box and a trusted radius. Not in the paper: a walk begins where gradients
    first cross the border, and at random only where they do not.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: the samples' random numbers, for starts.
        steps: looks of the walk along the border.
        rate: the first trusted radius, in L2 distances from the input to the walk's beginning; it
            falls to a thousandth. By default 1 for L0, else 0.1.
        momentum: what is kept of the border's normal at each step.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a rate not above 0, a momentum not in [0, 1).
        NotApplicable: the model's answers have no gradient.
    """
    rate = (1.0 if threat.norm == "l0" else 0.1) if rate is None else rate
    if steps < 1 or not rate > 0 or not 0 <= momentum < 1:
        raise BadOption(
            f"brendel_bethge: steps={steps} must be 1 or more, rate={rate} above 0 and "
            f"momentum={momentum} in [0, 1)"
        )

    def advance(walk: Following, seen: Seen, quarry: Quarry, nearest: Nearest) -> Following:
        normal = momentum * walk.normal + (1 - momentum) * seen.gradient
        radius = annealed(rate, _LAST * rate, walk.step, steps) * walk.radius
        point = _followed(replace(walk, normal=normal, radius=radius), seen, quarry)
        return replace(walk, point=point, normal=normal, step=walk.step + 1)

    quarry = Quarry(x, y, threat, random)
    home = at_home(model, quarry)
    nearest = _started(model, quarry, home)
    nearest = close_in(
        model, quarry, nearest, begin=_begin, see=see_margin, advance=advance, steps=steps,
        stop_inside=stop_inside,
    )  # fmt: skip
    if threat.norm == "l0":
        return answer(thinned(model, quarry, nearest, _TRIES, stop_inside=stop_inside), quarry)
    return answer(drawn_in(model, quarry, nearest, stop_inside=stop_inside), quarry)


def _begin(quarry: Quarry, nearest: Nearest) -> Following:
    far = distance(nearest.point, quarry.x, "l2")
    if quarry.threat.norm in ("l1", "l0"):
        # Few entries go far: what many moved by says nothing.
        far = far.clamp_min(_FAR * side(quarry.threat))
    return Following(nearest.point, torch.zeros_like(quarry.x), far)


def _followed(walk: Following, seen: Seen, quarry: Quarry) -> Tensor:
    """Return the points (B, *S) one step along the border further."""
    flat, start = seen.point.flatten(1).double(), quarry.x.flatten(1).double()
    lead, slope = seen.losses.double(), walk.normal.flatten(1).double()
    # In units of the steepest entry: no length of a slope then vanishes when it is squared.
    largest = slope.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny)
    gap = -lead * torch.where(lead > 0, _UNDER, _OVER) / largest
    move = nearer_on_border(
        Programme(
            start - flat, slope / largest[:, None], gap, quarry.threat.low - flat,
            quarry.threat.high - flat, walk.radius, seen.reached, quarry.threat.norm,
        )
    )  # fmt: skip
    # An entry that goes home is there, whatever the rounding: L0 counts it.
    point = torch.where(move == start - flat, start, flat + move)
    point = point.clamp(quarry.threat.low, quarry.threat.high)
    return point.to(seen.point.dtype).view_as(seen.point)


def _started(model: Classifier, quarry: Quarry, home: Nearest) -> Nearest:
    """Return the nearest on the border, or nearly, wherever a way across it was found."""
    threat, stride = quarry.threat, _STRIDE * side(quarry.threat)
    # With every point allowed, whoever has crossed is inside and may leave.
    endless = Lp(threat.norm, math.inf, threat.low, threat.high, threat.targeted)

    def onward(walk: Following, seen: Seen, quarry: Quarry, nearest: Nearest) -> Following:
        point = (seen.point + stride * seen.gradient.sign()).clamp(threat.low, threat.high)
        return replace(walk, point=point)

    free = replace(quarry, threat=endless)
    found = close_in(
        model, free, home, begin=_begin_at_home, see=see_margin, advance=onward, steps=_STEPS,
        stop_inside=True,
    )  # fmt: skip
    rows = found.distance.isinf().nonzero()[:, 0]
    if len(rows):
        part = quarry.at(rows)
        with frozen(model), torch.no_grad():
            oracle = Oracle(at(model, rows), part.y, part.threat, _DRAWS)
            trail = begin(oracle, part.x, endless, part.random, _DRAWS)
        there = rows[trail.rows]
        found = found.put(there, Nearest(trail.point, distance(trail.point, trail.x, threat.norm)))
    # In L0 the straight way back leads past no nearer point.
    if threat.norm == "l0":
        return thinned(model, quarry, found, _TRIES)
    return drawn_in(model, quarry, found, _HALVINGS)


def _begin_at_home(quarry: Quarry, nearest: Nearest) -> Following:
    return Following(quarry.x, quarry.x, torch.zeros_like(nearest.distance))
