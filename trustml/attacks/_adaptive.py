"""APGD's walk for Linf and L2: momentum, and a step that halves when it stops paying."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._adaptive_l1 import sparse_walk
from trustml.attacks._pursuit import Best, Loss, Peak, Seen, pursue
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier
from trustml.geometry import interval, like, pull, steepest

# Steps between checks, as shares of all: the first window, what each next one loses, the least.
_WINDOW, _LOST, _LEAST = 0.22, 0.03, 0.06
_CLIMBING, _MOMENTUM = 0.75, 0.75


@dataclass(frozen=True, slots=True, eq=False)
class Adaptive:
    """Where a walk stands and what it counts until the next check.

    Args:
        point: (B, *S); `previous` is the one before it.
        step: length (B,) of a step.
        peak: the highest point so far.
        last: loss (B,) one step ago.
        rises: steps (B,) since the last check on which the loss rose.
        checked: highest loss (B,) at the last check.
        halved: whether (B,) the step was halved at the last check.
        lower: for Linf the lowest allowed values, `upper` the highest.
        steps: moves in all.
        window: moves from one check to the next.
        since: moves since the last check.
    """

    point: Tensor
    previous: Tensor
    step: Tensor
    peak: Peak
    last: Tensor
    rises: Tensor
    checked: Tensor
    halved: Tensor
    lower: Tensor | None
    upper: Tensor | None
    steps: int
    window: int
    since: int = 0
    moved: bool = False


def adaptive_walk(
    model: Classifier, quarry: Quarry, best: Best, /, *, loss: Loss, steps: int
) -> Best:
    """Return the best after one APGD walk for each sample that is not won yet."""
    if quarry.threat.norm == "l1":
        return sparse_walk(model, quarry, best, loss=loss, steps=steps)
    return pursue(
        model, quarry, best, steps=steps, loss=loss, advance=climb,
        begin=lambda hunted: begin_climb(hunted, steps),
    )  # fmt: skip


def begin_climb(quarry: Quarry, steps: int) -> Adaptive:
    """Return the walk at a random point of each ball's edge, with steps as long as it is wide."""
    x, threat = quarry.x, quarry.threat
    epsilon = threat.budget(x).to(x.dtype).expand(len(x), *[1] * (x.dim() - 1))
    shape = tuple(x.shape[1:])
    bounds: tuple[Tensor | None, Tensor | None] = (None, None)
    if threat.norm == "linf":
        bounds = interval(x, threat.budget(x), threat.low, threat.high)
        move = 2 * quarry.random.uniform(shape, "start").to(x.dtype) - 1
        size = move.flatten(1).abs().amax(1)
    else:
        move = quarry.random.normal(shape, "start").to(x.dtype)
        size = torch.linalg.vector_norm(move.flatten(1), dim=1)
    # Not finite where the ball has no edge: the box is all there is.
    step = (2 * epsilon.flatten()).clamp(max=2 * (threat.high - threat.low) * x[0].numel())
    point = x + move * like(step / (2 * size), x)
    nothing = torch.zeros_like(step)
    walk = Adaptive(
        x, x, step, Peak(x, torch.full_like(step, -torch.inf), x), nothing + torch.inf, nothing,
        nothing, torch.ones_like(step, dtype=torch.bool), *bounds, steps,
        max(int(_WINDOW * steps), 1),
    )  # fmt: skip
    point = allowed(walk, point, quarry)
    return replace(walk, point=point, previous=point)


def climb(walk: Adaptive, seen: Seen, quarry: Quarry) -> Adaptive:
    """Return the walk one step further, after a check where one is due."""
    peak = walk.peak.or_higher(seen)
    rises = walk.rises + (seen.losses > walk.last)
    walk = replace(walk, peak=peak, rises=rises, last=seen.losses)
    point, gradient = seen.point, seen.gradient
    if walk.since == walk.window:
        walk = checked(walk)
        back = like(walk.halved, point)
        point = torch.where(back, peak.point, point)
        gradient = torch.where(back, peak.gradient, gradient)
    step = like(walk.step, point) * steepest(gradient, quarry.threat.norm)
    target = allowed(walk, point + step, quarry)
    if walk.moved:
        drift = (target - point) * _MOMENTUM + (point - walk.previous) * (1 - _MOMENTUM)
        target = allowed(walk, point + drift, quarry)
    return replace(walk, point=target, previous=point, since=walk.since + 1, moved=True)


def checked(walk: Adaptive) -> Adaptive:
    """Return the walk after a check; it halves where few steps rose or nothing came of a window."""
    seldom = walk.rises <= _CLIMBING * walk.window
    idle = ~walk.halved & (walk.checked >= walk.peak.loss)
    halved = seldom | idle
    lost, least = max(int(_LOST * walk.steps), 1), max(int(_LEAST * walk.steps), 1)
    return replace(
        walk,
        step=torch.where(halved, walk.step / 2, walk.step),
        halved=halved,
        checked=walk.peak.loss,
        rises=torch.zeros_like(walk.rises),
        window=max(walk.window - lost, least),
        since=0,
    )


def allowed(walk: Adaptive, point: Tensor, quarry: Quarry) -> Tensor:
    if walk.lower is not None and walk.upper is not None:
        return torch.clamp(point, walk.lower, walk.upper)
    threat = quarry.threat
    return pull(point, quarry.x, threat.norm, threat.budget(quarry.x), (threat.low, threat.high))
