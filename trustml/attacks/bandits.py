"""Bandits: a gradient that is remembered from step to step, and the same for neighbours."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._flights import take
from trustml.attacks._judge import Judge, check_counts, check_sizes, reach
from trustml.attacks._losses import LossName
from trustml.attacks._windows import Plane, plane_of
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.geometry import like, steepest
from trustml.registry import attack

# How far looks go, as a share of the radius; how much one of them changes the gradient.
_SPREAD, _RATE = 0.3, 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Where samples `rows` (B,) stand; what they take for the gradient, on the tiles (B, C, h, w).

    `scale` (B,) is how far apart two looks usually are, `reach` (B,) how far they may go.
    """

    rows: Tensor
    point: Tensor
    prior: Tensor
    scale: Tensor
    reach: Tensor


@attack(
    source="Ilyas, Engstrom & Madry 2019, arXiv:1807.07978, algorithms 2 and 3",
    needs=Access.PROBABILITIES,
    norms=("linf", "l2"),
)
def bandits(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    tile: int = 2,
    exploration: float = 1.0,
    stride: float = 0.1,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss met on walks along a learnt gradient.

    Each step learns from two opposite changes of the gradient that it holds, a number a tile.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        tile: side of the tiles, in entries; 1 takes each entry by itself.
        exploration: length of the changes; the gradient's is 1 at most.
        stride: length of the first step, as a share of the radius; it falls to 0.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a length that is not above 0.
        MethodFailed: the model answers NaN.
    """
    check_counts("bandits", queries=queries, tile=tile)
    check_sizes("bandits", exploration=exploration, stride=stride)
    plane = plane_of(x.shape[1:])
    tiles = (plane.channels, -(-plane.rows // tile), -(-plane.columns // tile))
    far = _SPREAD * (x[0].numel() ** 0.5 if threat.norm == "linf" else 1.0)
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        rows, zero = torch.arange(len(x), device=x.device), x.new_zeros(len(x), *tiles)
        walk = Walk(rows, x, zero, x.new_zeros(len(x)), reach(x, threat))
        while len(left := judge.going(walk.rows, 3)):
            if len(left) < len(walk.rows):
                walk = take(walk, left)
            change = steepest(random.at(walk.rows).normal(tiles, "change", step), "l2")
            change = exploration * change.to(x.dtype)
            looks = [
                walk.point + like(far * walk.reach, x) * _along(walk.prior + way, plane, x, "l2")
                for way in (change, -change)
            ]
            ahead, behind = judge(judge.pulled(torch.cat(looks), walk.rows), walk.rows)
            walk = _learnt(walk, (ahead - behind).nan_to_num(0.0, 0.0, 0.0), change * _RATE)
            length = like(walk.reach * (stride * judge.left / queries), x)
            point = walk.point + length * _along(walk.prior, plane, x, threat.norm)
            walk = replace(walk, point=judge.pulled(point, walk.rows))
            judge(walk.point, walk.rows)
            step += 1
    return threat.project(judge.best, x)


def _along(prior: Tensor, plane: Plane, x: Tensor, norm: Norm) -> Tensor:
    """Return the steepest step (B, *S) along gradients on tiles; a look's is of L2 norm 1."""
    shape = (plane.rows, plane.columns)
    row, column = (
        torch.arange(full, device=x.device) * tiles // full
        for full, tiles in zip(shape, prior.shape[2:], strict=True)
    )
    whole = prior[:, :, row][:, :, :, column]
    return steepest(whole, norm).reshape(-1, *x.shape[1:])


def _learnt(walk: Walk, ahead: Tensor, change: Tensor) -> Walk:
    """Return the walk with a gradient that speaks more for the change where it was better ahead."""
    # By the largest difference of late, so that it does not matter how large losses are.
    scale = torch.maximum(0.9 * walk.scale, ahead.abs())
    weight = (ahead / scale.clamp_min(torch.finfo(scale.dtype).tiny)).to(change.dtype)
    prior = walk.prior + like(weight, change) * change
    size = prior.flatten(1).double().square().sum(1).sqrt().to(prior.dtype)
    return replace(walk, prior=prior / like(size.clamp_min(1.0), prior), scale=scale)
