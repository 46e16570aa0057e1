"""Pixle: pixels of an input are put where others were, as long as that helps."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._flights import take
from trustml.attacks._judge import Judge, check_counts, reach
from trustml.attacks._losses import LossName
from trustml.attacks._windows import Plane, plane_of
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack


@dataclass(frozen=True, slots=True, eq=False)
class Mosaic:
    """Samples `rows` (B,): pixels (B, C, P) of inputs and of points, and the points' losses (B,).

    `changed` (B, P) are the pixels that were replaced, `most` (B,) how many may be.
    """

    rows: Tensor
    x: Tensor
    point: Tensor
    loss: Tensor
    changed: Tensor
    most: Tensor


@attack(
    source="Pomponi, Scardapane & Uncini 2022, arXiv:2202.02236, algorithm 1 with random mapping",
    needs=Access.PROBABILITIES,
    norms=("l0",),
)
def pixle(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 2000,
    share: float = 0.5,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss met while pixels were copied to elsewhere.

    Each query takes a square patch of the input and puts its pixels, with all their channels, on
    pixels anywhere. Not in the paper: patches shrink, and where more pixels than the ball allows
    would be replaced, some of the earlier ones are put back.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box; of what is no image each entry is a pixel.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal. One pixel costs as many entries as it has channels.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        share: pixels of the first patches, as a share of those that may be replaced; in the end
            patches have one.
        loss: what is climbed.

    Raises:
        BadOption: no queries, or a share that is not in (0, 1].
        MethodFailed: the model answers NaN.
    """
    check_counts("pixle", queries=queries)
    if not 0 < share <= 1:
        raise BadOption(f"pixle: share={share} must be above 0 and at most 1")
    plane = plane_of(x.shape[1:])
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        mosaic = _begin(x, plane, (reach(x, threat) / plane.channels).long())
        while len(left := judge.going(mosaic.rows, 1)):
            if len(left) < len(mosaic.rows):
                mosaic = take(mosaic, left)
            now = share * max(0.0, 1 - 2 * step / queries)
            tried = _copied(mosaic, plane, random.at(mosaic.rows), now, step)
            losses = judge(tried.point.reshape(-1, *x.shape[1:]), mosaic.rows)[0]
            better = losses >= mosaic.loss
            mosaic = replace(
                mosaic,
                point=torch.where(better[:, None, None], tried.point, mosaic.point),
                changed=torch.where(better[:, None], tried.changed, mosaic.changed),
                loss=torch.where(better, losses, mosaic.loss),
            )
            step += 1
    return threat.project(judge.best, x)


def _begin(x: Tensor, plane: Plane, most: Tensor) -> Mosaic:
    pixels = x.reshape(len(x), plane.channels, -1)
    lowest = torch.full_like(pixels[:, 0, 0], -torch.inf)
    none = torch.zeros_like(pixels[:, 0], dtype=torch.bool)
    rows = torch.arange(len(x), device=x.device)
    return Mosaic(rows, pixels, pixels, lowest, none, most)


def _copied(mosaic: Mosaic, plane: Plane, random: Random, share: float, step: int) -> Mosaic:
    """Return the mosaics with the pixels of one patch of the input copied to random places."""
    pixels = plane.rows * plane.columns
    count = (share * mosaic.most).round().long().clamp_min(1).minimum(mosaic.most)
    drawn = random.uniform((pixels,), "places", step)
    rank = drawn.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    new = rank < count[:, None]
    # The patch is as high as it is wide, or as the image is: its pixels go to the places by rank.
    width = count.double().sqrt().ceil().long().clamp(1, plane.columns)
    if plane.is_line:
        width = count.clamp_min(1)
    corner = random.uniform((2,), "patch", step)
    height = ((count + width - 1) // width).clamp(1, plane.rows)
    top = (corner[:, 0] * (plane.rows - height + 1)).long().minimum(plane.rows - height)
    left = (corner[:, 1] * (plane.columns - width + 1)).long().minimum(plane.columns - width)
    row = (top[:, None] + rank // width[:, None]) % plane.rows
    source = row * plane.columns + left[:, None] + rank % width[:, None]
    values = mosaic.x.gather(2, source[:, None].expand_as(mosaic.x))
    # New ones first, then earlier ones in a random order: so many as may be replaced stay.
    key = torch.where(mosaic.changed, random.uniform((pixels,), "kept", step), 2.0)
    order = key.masked_fill(new, -1.0).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    changed = (new | mosaic.changed) & (order < mosaic.most[:, None])
    point = torch.where(new[:, None], values, mosaic.point)
    point = torch.where(changed[:, None], point, mosaic.x)
    return replace(mosaic, point=point, changed=changed)
