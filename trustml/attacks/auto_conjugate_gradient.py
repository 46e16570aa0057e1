"""Auto conjugate gradient: APGD's steps and checks, with conjugate gradients for momentum."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trustml.attacks._adaptive import Adaptive, allowed, begin_climb, checked
from trustml.attacks._adaptive_l1 import Sparse, begin_sparsely, looked, stepped, through_balls
from trustml.attacks._descent import TINY, length, unit
from trustml.attacks._losses import LOSSES, LossName
from trustml.attacks._pursuit import Seen, at_rest, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like, steepest
from trustml.registry import attack

# A slope that changed by less of itself has not changed.
_STILL = 1e-6
# Where β is rescaled: the moves before the first check, what each next window loses, and the least.
_WINDOW, _LOST, _LEAST = 0.43, 0.24, 0.08


@dataclass(frozen=True, slots=True, eq=False)
class Conjugate:
    """Where a walk stands (B, *S).

    Args:
        climb: its steps and what it counts, as APGD's.
        slope: the gradient (B, *S) at the last point; `way` the direction that led on from there.
        best_slope: those of the highest point: (B, *S), as `best_way`.
    """

    point: Tensor
    climb: Adaptive | Sparse
    slope: Tensor
    way: Tensor
    best_slope: Tensor
    best_way: Tensor


@attack(
    source="Yamamura et al. 2022, arXiv:2206.09628, algorithm 1; rescaled: 2024, arXiv:2408.03972",
    needs=Access.GRADIENTS,
    norms=("linf", "l2", "l1"),
)
def auto_conjugate_gradient(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    restarts: int = 1,
    loss: LossName = "cross_entropy",
    rescaled: bool = False,
) -> Tensor:
    """Return the best points (B, *S) of walks by conjugate gradients, whose steps halve.

    A direction is the gradient plus β times the last direction, in place of `apgd`'s momentum. β
    is Hestenes and Stiefel's with the sign that the authors' program gives it: with the textbook's,
    under which directions are conjugate, walks are weaker. L1 takes `apgd`'s sparse steps, through
    the same balls, and holds β between 0 and where the last direction weighs like the gradient.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        steps: moves of one walk.
        restarts: walks for each sample that no earlier walk has won.
        loss: what is climbed.
        rescaled: where the last direction outweighs the gradient, take β from gradients of length
            1, if that is less, and check later (L1: as ever) whether steps pay: Rescaling-ACG.

    Raises:
        BadOption: a count below 1.
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, restarts) < 1:
        raise BadOption(
            f"auto_conjugate_gradient: steps={steps} and restarts={restarts} must be 1 or more"
        )

    def climbed(logits: Tensor, quarry: Quarry) -> Tensor:
        return LOSSES[loss](logits, quarry.y, quarry.threat.targeted)

    advance = partial(_onward, rescaled=rescaled)
    best = at_rest(model, Quarry(x, y, threat, random))
    for restart in range(restarts):
        quarry = Quarry(x, y, threat, random.fold(restart))
        if threat.norm == "l1":
            best = through_balls(
                model, quarry, best, loss=climbed, steps=steps, begin=_begin_sparsely,
                advance=advance,
            )  # fmt: skip
        else:
            begin = partial(_begin, steps=steps, rescaled=rescaled)
            best = pursue(
                model, quarry, best, begin=begin, advance=advance, loss=climbed, steps=steps
            )
    return threat.project(best.point, x)


def _begin(quarry: Quarry, *, steps: int, rescaled: bool) -> Conjugate:
    climb = begin_climb(quarry, steps)
    if rescaled:
        climb = replace(climb, window=max(int(_WINDOW * steps), 1))
    return _at_rest(climb, quarry)


def _begin_sparsely(quarry: Quarry, *, factor: float, steps: int) -> Conjugate:
    return _at_rest(begin_sparsely(quarry, factor, steps), quarry)


def _at_rest(climb: Adaptive | Sparse, quarry: Quarry) -> Conjugate:
    still = torch.zeros_like(quarry.x)
    return Conjugate(climb.point, climb, still, still, still, still)


def _onward(walk: Conjugate, seen: Seen, quarry: Quarry, *, rescaled: bool = False) -> Conjugate:
    """Return the walk one step further, after a check where one is due."""
    climb, slope, way, point = walk.climb, walk.slope, walk.way, seen.point
    higher = like(seen.losses > climb.peak.loss, point)
    best_slope = torch.where(higher, slope, walk.best_slope)
    best_way = torch.where(higher, way, walk.best_way)
    if isinstance(climb, Sparse):
        climb, back = looked(climb, seen, quarry)
    else:
        climb, back = _looked(climb, seen, rescaled=rescaled)
    gradient = seen.gradient
    if back is not None:
        back = like(back, point)
        point = torch.where(back, climb.peak.point, point)
        gradient = torch.where(back, climb.peak.gradient, gradient)
        slope, way = torch.where(back, best_slope, slope), torch.where(back, best_way, way)
    share = _share(gradient, slope, way, rescaled=rescaled)
    if isinstance(climb, Sparse):
        share = _bounded(share, gradient, way)
    onward = gradient + like(share.to(way.dtype), way) * way
    if isinstance(climb, Sparse):
        climb = stepped(climb, point, onward, quarry)
    else:
        climb = _stepped(climb, point, onward, quarry)
    return Conjugate(climb.point, climb, gradient, onward, best_slope, best_way)


def _looked(climb: Adaptive, seen: Seen, *, rescaled: bool) -> tuple[Adaptive, Tensor | None]:
    """Return the climb after a look, and who (B,) goes back to the peak if a check was due."""
    climb = replace(
        climb, peak=climb.peak.or_higher(seen), rises=climb.rises + (seen.losses > climb.last),
        last=seen.losses,
    )  # fmt: skip
    if climb.since < climb.window:
        return climb, None
    window = max(climb.window - int(_LOST * climb.steps), int(_LEAST * climb.steps), 1)
    climb = checked(climb)
    return replace(climb, window=window) if rescaled else climb, climb.halved


def _stepped(climb: Adaptive, point: Tensor, onward: Tensor, quarry: Quarry) -> Adaptive:
    step = like(climb.step, point) * steepest(onward, quarry.threat.norm)
    target = allowed(climb, point + step, quarry)
    return replace(climb, point=target, previous=point, since=climb.since + 1)


def _share(gradient: Tensor, slope: Tensor, way: Tensor, *, rescaled: bool = False) -> Tensor:
    """Return β (B,), how much of the last direction `way` is kept; 0 where that is no number.

    `rescaled`: where the last direction outweighs the gradient, β of slopes of length 1, if less.
    """
    new, old, last = (part.flatten(1).double() for part in (gradient, slope, way))
    share = _hestenes_stiefel(new, old, last)
    if rescaled:
        even = _hestenes_stiefel(unit(new), unit(old), last)
        ratio = (new / last).abs().masked_fill(last == 0, torch.nan).nanmean(1)
        less = (share.abs() > ratio) & (share.abs() > even.abs())
        share = torch.where(less, even, share)
    # Back at the same corner of the cube, what the slope has changed by is rounding.
    still = (old - new).square().sum(1) <= _STILL**2 * new.square().sum(1)
    return torch.where(share.isfinite() & ~still, share, 0.0)


def _hestenes_stiefel(new: Tensor, old: Tensor, last: Tensor) -> Tensor:
    change = old - new
    return (new * change).sum(1) / (last * change).sum(1)


def _bounded(share: Tensor, gradient: Tensor, way: Tensor) -> Tensor:
    """Return β (B,) from 0 to where the last direction weighs as much as the gradient.

    Below 0 it would take back the few entries that the last sparse step has moved.
    """
    most = length(gradient, "l2") / length(way, "l2").clamp_min(TINY)
    return share.clamp_min(0).minimum(most)
