"""Projected steepest ascent from the input or a random point: what fgsm and pgd share."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from trustml.attacks._pursuit import Loss, Seen
from trustml.attacks._quarry import Quarry
from trustml.contracts import Norm, Random
from trustml.geometry import diameter, interval, like, pull, steepest
from trustml.threats import check_labels

# Share of the entries that one L1 step moves, as in SLIDE (Tramèr & Boneh 2019).
_L1_SHARE = 0.01
# Shares of the box's width by which rounding may keep an entry off the wall.
_AT_WALL = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Ascent:
    """A walk of fixed step: the point, the step (B, 1, …), and for Linf the bounds of the ball."""

    point: Tensor
    step: Tensor
    lower: Tensor | None
    upper: Tensor | None


def begin_ascent(quarry: Quarry, step: Tensor, start: bool) -> Ascent:
    """Return the walk at the inputs, or at a uniform random point of each ball if `start`.

    Args:
        quarry: the samples.
        step: length of a step in the threat's norm, a scalar or (B, 1, …).
        start: begin at random.
    """
    x, threat = quarry.x, quarry.threat
    # No ball is wider than the box, and infinity times a gradient of 0 would be no number.
    widest = diameter(threat.norm, threat.high - threat.low, x[0].numel())
    epsilon, step = threat.budget(x).clamp(max=widest), step.clamp(max=widest)
    bounds: tuple[Tensor | None, Tensor | None] = (None, None)
    if threat.norm == "linf":
        bounds = interval(x, epsilon, threat.low, threat.high)
    walk = Ascent(x, step.to(x.dtype).expand(len(x), *[1] * (x.dim() - 1)), *bounds)
    if start:
        walk = placed(walk, x + in_ball(x, threat.norm, epsilon, quarry.random), quarry)
    return walk


def ascend(walk: Ascent, seen: Seen, quarry: Quarry) -> Ascent:
    """Return the walk one steepest step further, back in ball and box."""
    norm = quarry.threat.norm
    if norm == "l1":
        return placed(walk, _sparsely_moved(walk, seen.gradient, quarry), quarry)
    move = steepest(seen.gradient, norm)
    return placed(walk, move.mul_(walk.step).add_(walk.point), quarry)


def in_ball(x: Tensor, norm: Norm, epsilon: Tensor, random: Random, draw: int = 0) -> Tensor:
    """Return moves (B, *S), uniform in the volume of each Linf, L2 or L1 ball."""
    shape = tuple(x.shape[1:])
    if norm == "linf":
        even = random.uniform(shape, "ball", draw).mul_(2).sub_(1)
        return even.to(x.dtype).mul_(epsilon.to(x.dtype))
    count = x[0].numel()
    if norm == "l2":
        direction = random.normal(shape, "ball", draw).to(x.dtype)
        size = torch.linalg.vector_norm(direction.flatten(1), dim=1)
        radius = random.uniform((), "radius", draw).to(x.dtype) ** (1 / count)
        return direction * like(radius / size, x) * epsilon.to(x.dtype)
    # Exponentials over their sum with one more are uniform in the simplex (Barthe et al. 2005).
    parts = -torch.log1p(-random.uniform((count + 1,), "ball", draw)).to(x.dtype)
    signs = random.integers(2, shape, "sign", draw).to(x.dtype) * 2 - 1
    return (parts[:, :-1] / parts.sum(1, keepdim=True)).view_as(x) * signs * epsilon.to(x.dtype)


def placed(walk: Ascent, point: Tensor, quarry: Quarry) -> Ascent:
    """Return the walk at the allowed point near `point`, which is overwritten."""
    if walk.lower is not None and walk.upper is not None:
        point = point.clamp_(walk.lower, walk.upper)
    else:
        threat = quarry.threat
        point = pull(
            point, quarry.x, threat.norm, threat.budget(quarry.x), (threat.low, threat.high)
        )
    return Ascent(point, walk.step, walk.lower, walk.upper)


def settled(point: Tensor, quarry: Quarry) -> Tensor:
    """Return the points (B, *S) of walks, exactly in ball and box; in Linf they never leave it."""
    return point if quarry.threat.norm == "linf" else quarry.threat.project(point, quarry.x)


def checked_once(loss: Loss, y: Tensor) -> Loss:
    """Return the loss; the first answers are checked to have a class for every label (B,)."""
    unread = [y]

    def checked(logits: Tensor, quarry: Quarry) -> Tensor:
        while unread:
            check_labels(logits, unread.pop())
        return loss(logits, quarry)

    return checked


def with_room(gradient: Tensor, point: Tensor, quarry: Quarry) -> Tensor:
    """Return the gradient without the entries that already stand at the wall they would climb to.

    A sparse step that spends itself on those goes nowhere.
    """
    most = _ways(gradient, point, quarry).abs_().mul_(torch.finfo(gradient.dtype).max)
    return gradient.clamp(-most, most)


def _sparsely_moved(walk: Ascent, gradient: Tensor, quarry: Quarry) -> Tensor:
    """Return the points (B, *S) a step further, shared by the steepest entries that have room."""
    share = max(1, round(_L1_SHARE * gradient[0].numel()))
    ways = _ways(gradient, walk.point, quarry)
    best = (gradient * ways).flatten(1).topk(share, dim=1).indices
    moves = ways.flatten(1).gather(1, best).mul_(walk.step.flatten(1) / share)
    return walk.point.flatten(1).scatter_add(1, best, moves).view_as(gradient)


def _ways(gradient: Tensor, point: Tensor, quarry: Quarry) -> Tensor:
    """Return the gradient's signs (B, *S), 0 at entries that stand at the wall they climb to."""
    low, high = quarry.threat.low, quarry.threat.high
    far = gradient.sign().mul_(high - low).add_(point)
    return hardshrink(far.clamp_(low, high).sub_(point), _AT_WALL * (high - low)).sign_()
