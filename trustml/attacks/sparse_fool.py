"""SparseFool: DeepFool onto the border, then from the input to its plane there in few entries."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._descent import see_margin
from trustml.attacks._nearest import Nearest, answer, at_home, close_in, drawn_in
from trustml.attacks._planes import onto_plane
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

# The stretch changes by a share of what it is off 1, and by a little: more after a sparse move that
# lost, less after one that won.
_MORE, _LESS, _LITTLE = 1 / 2, 1 / 3, 0.05
_RANGE = (0.1, 1e6)
# Forward passes in the end: to put entries back (L0), or to halve the way (L1).
_TRIES = 10


@dataclass(frozen=True, slots=True, eq=False)
class Approach:
    """Where a walk stands.

    Args:
        point: (B, *S).
        slope: (B, *S) the plane's normal at the last point of the border that was found.
        height: (B,) what slope · move is for moves from the input onto that plane.
        stretch: (B,) how much farther sparse moves go.
        sparse: (B,) whether the point is the end of one.
    """

    point: Tensor
    slope: Tensor
    height: Tensor
    stretch: Tensor
    sparse: Tensor


@attack(
    source="Modas et al. 2019, arXiv:1811.02248, algorithms 1 and 2",
    needs=Access.GRADIENTS,
    norms=("l1", "l0"),
    minimum_norm=True,
)
def sparse_fool(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 50,
    stretch: float = 3.0,
    overshoot: float = 0.02,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none does.

    DeepFool's steps lead to a point that wins; from the input the fewest or steepest entries go to
    the plane through it, and farther; where that loses, DeepFool goes on from there. Not in the
    paper: after a sparse move that won the walk goes on, with less of a stretch, and after one that
    lost with more; steps go to the likeliest other class and stay in the box; in the end entries
    are put back (L0), or the way is halved (L1).

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of the walk.
        stretch: how far sparse moves go to begin with, 1 for just onto the plane (the paper's λ).
        overshoot: how much farther than to the plane a step of DeepFool goes.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: steps below 1, a stretch below 1, an overshoot below 0.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or not 1 <= stretch <= _RANGE[1] or not overshoot >= 0:
        raise BadOption(
            f"sparse_fool: steps={steps} must be 1 or more, stretch={stretch} from 1 to a million "
            f"and overshoot={overshoot} 0 or more"
        )

    def advance(walk: Approach, seen: Seen, quarry: Quarry, nearest: Nearest) -> Approach:
        walk = _learnt(walk, seen, quarry)
        onward = _onward(seen, quarry, 1 + overshoot)
        point = torch.where(like(seen.reached, onward), _in_few(walk, quarry), onward)
        point = point.clamp(quarry.threat.low, quarry.threat.high)
        return replace(walk, point=point, sparse=seen.reached)

    quarry = Quarry(x, y, threat, random)
    nearest = close_in(
        model, quarry, at_home(model, quarry), begin=_begin(stretch), see=see_margin,
        advance=advance, steps=steps, stop_inside=stop_inside,
    )  # fmt: skip
    finish = thinned if threat.norm == "l0" else drawn_in
    return answer(finish(model, quarry, nearest, _TRIES, stop_inside=stop_inside), quarry)


def _begin(stretch: float) -> Callable[[Quarry, Nearest], Approach]:
    def begin(quarry: Quarry, nearest: Nearest) -> Approach:
        far, still = torch.full_like(nearest.distance, stretch), torch.zeros_like(quarry.x)
        return Approach(quarry.x, still, torch.zeros_like(far), far, far < 0)

    return begin


def _learnt(walk: Approach, seen: Seen, quarry: Quarry) -> Approach:
    """Return the walk with the plane through a point of the border, and with the stretch to use."""
    off = (walk.stretch - 1).abs()
    change = torch.where(seen.reached, -_LESS * off - _LITTLE, _MORE * off + _LITTLE)
    stretch = walk.stretch + torch.where(walk.sparse, change, 0.0)
    fresh = seen.reached & ~walk.sparse
    move = (seen.point - quarry.x).flatten(1).double()
    height = (seen.gradient.flatten(1).double() * move).sum(1)
    return replace(
        walk,
        slope=torch.where(like(fresh, seen.point), seen.gradient, walk.slope),
        height=torch.where(fresh, height, walk.height),
        stretch=stretch.clamp(*_RANGE),
    )


def _onward(seen: Seen, quarry: Quarry, pace: float) -> Tensor:
    """Return where DeepFool goes (B, *S): so many times the way onto the plane of a tie."""
    flat, box = seen.point.flatten(1), (quarry.threat.low, quarry.threat.high)
    lacking = (-pace * seen.losses).to(flat.dtype)
    move = onto_plane(flat, seen.gradient.flatten(1), lacking, "l2", box)
    return seen.point + move.view_as(seen.point)


def _in_few(walk: Approach, quarry: Quarry) -> Tensor:
    """Return where the sparse move ends (B, *S) from the inputs onto their planes and beyond."""
    home, threat = quarry.x.flatten(1), quarry.threat
    height = (walk.stretch * walk.height).to(home.dtype)
    box = (threat.low, threat.high)
    move = onto_plane(home, walk.slope.flatten(1), height, threat.norm, box)
    return quarry.x + move.view_as(quarry.x)
