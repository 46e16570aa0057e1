"""NES and SPSA: steps along gradients that pairs of opposite looks around a point estimate."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._directions import Directions
from trustml.attacks._flights import take
from trustml.attacks._judge import Judge, check_counts, check_sizes, reach
from trustml.attacks._losses import LossName
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.geometry import like, steepest
from trustml.registry import attack

# How far looks go, as a share of the radius; the share of a step that earlier estimates say.
_SPREAD, _MOMENTUM = 0.3, 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Where samples `rows` (B,) stand, the mean of their estimates, how far they may go (B,)."""

    rows: Tensor
    point: Tensor
    slope: Tensor
    reach: Tensor


@attack(
    source="Ilyas et al. 2018, arXiv:1804.08598; signs: Uesato et al. 2018, arXiv:1802.05666",
    needs=Access.PROBABILITIES,
    norms=("linf", "l2"),
)
def nes(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    pairs: int = 10,
    noise: Literal["normal", "signs"] = "normal",
    stride: float = 0.2,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss met on walks along estimated gradients.

    With noise=signs the estimate is SPSA's. Looks, too, stay in the ball, so each may win.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        pairs: opposite looks that one estimate takes.
        noise: directions of the looks: normal numbers (NES), or signs (SPSA).
        stride: length of the first step, as a share of the radius; it falls to 0.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a length that is not above 0.
        MethodFailed: the model answers NaN.
    """
    check_counts("nes", queries=queries, pairs=pairs)
    check_sizes("nes", stride=stride)
    # Unit vectors; in Linf entries of mean square 1, as far as a step goes.
    root = x[0].numel() ** 0.5 if threat.norm == "linf" else 1.0
    with frozen(model), torch.no_grad():
        judge = Judge(model, x, y, threat, queries, loss)
        rows, step = torch.arange(len(x), device=x.device), 0
        walk = Walk(rows, x, torch.zeros_like(x), reach(x, threat))
        while len(left := judge.going(walk.rows, 2 * pairs + 1)):
            walk = take(walk, left)
            moves = _moves(walk, random.at(walk.rows), (pairs, step), noise == "signs")
            length = like(walk.reach * (_SPREAD * root), x)
            slope = _MOMENTUM * walk.slope + _estimate(judge, walk, moves, length)
            walk = replace(walk, slope=slope)
            length = like(walk.reach * (stride * (judge.left / queries)), x)
            point = walk.point + length * steepest(walk.slope, threat.norm)
            walk = replace(walk, point=judge.pulled(point, walk.rows))
            judge(walk.point, walk.rows)
            step += 1
    return threat.project(judge.best, x)


def _moves(walk: Walk, random: Random, when: tuple[int, int], signs: bool) -> Tensor:
    """Return unit directions (pairs, B, *S)."""
    pairs, step = when
    directions = Directions(walk.point[0].numel(), walk.point.device)
    places = directions.draw(random, pairs, "looks", step)
    moves = directions.at(places.T.flatten())
    if signs:
        moves = moves.sign() / moves.shape[1] ** 0.5
    return moves.to(walk.point.dtype).view(pairs, *walk.point.shape)


def _estimate(judge: Judge, walk: Walk, moves: Tensor, length: Tensor) -> Tensor:
    """Return Σ (loss ahead − loss behind) · direction (B, *S)."""
    aside = moves * length
    points = torch.cat([walk.point + aside, walk.point - aside]).flatten(0, 1)
    ahead, behind = judge(judge.pulled(points, walk.rows), walk.rows).chunk(2)
    # Who has won leaves, so what is infinite does not matter any more.
    weights = (ahead - behind).nan_to_num(0.0, 0.0, 0.0)
    total = torch.zeros_like(walk.point)
    # One after the other: the same in every batch.
    for weight, move in zip(weights, moves, strict=True):
        total += like(weight, move) * move
    return total
