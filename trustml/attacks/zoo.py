"""ZOO: Adam on a few entries at a time, their slopes taken from two looks each."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._flights import take
from trustml.attacks._judge import Judge, check_counts, check_sizes, reach
from trustml.attacks._losses import LossName
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.registry import attack

_DECAY, _SQUARE_DECAY, _TINY = 0.9, 0.999, 1e-8
# How far a look is from the point, as a share of the box's width.
_LOOK = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Where samples `rows` (B,) stand, flat, and what Adam keeps of each entry (B, D)."""

    rows: Tensor
    point: Tensor
    mean: Tensor
    square: Tensor
    order: Tensor
    reach: Tensor


@attack(
    source="Chen et al. 2017, arXiv:1708.03999, algorithm 2",
    needs=Access.PROBABILITIES,
    norms=("l2",),
)
def zoo(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    entries: int = 16,
    stride: float = 4.0,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss met while entries climb in turn.

    All entries have their turn, in a random order, before it begins again.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        entries: how many are moved at once.
        stride: Adam's first step; 1 in all entries is as long as epsilon. It falls to 0.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a stride that is not above 0.
        MethodFailed: the model answers NaN.
    """
    check_counts("zoo", queries=queries, entries=entries)
    check_sizes("zoo", stride=stride)
    flat = x.flatten(1)
    size = flat.shape[1]
    entries = min(entries, size)
    turns = -(-size // entries)
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        zero, rows = torch.zeros_like(flat), torch.arange(len(x), device=x.device)
        order = random.uniform((size,), "order").argsort(dim=1, stable=True)
        length = stride * reach(x, threat)[:, None] / size**0.5
        walk = Walk(rows, flat, zero, zero, order, length)
        while len(left := judge.going(walk.rows, 2 * entries + 1)):
            if len(left) < len(walk.rows):
                walk = take(walk, left)
            first = step % turns * entries
            which = walk.order[:, first : first + entries]
            slope = _slope(judge, walk, which, x, threat)
            slow = judge.left / queries
            walk = _climbed(walk, which, slope, step // turns + 1, slow)
            point = judge.pulled(walk.point.view(-1, *x.shape[1:]), walk.rows)
            judge(point, walk.rows)
            walk = replace(walk, point=point.flatten(1))
            step += 1
    return threat.project(judge.best, x)


def _slope(judge: Judge, walk: Walk, which: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """Return the slopes (B, n) of the loss along those entries."""
    here, look = walk.point.gather(1, which), _LOOK * (threat.high - threat.low)
    ends = [(here + way).clamp(threat.low, threat.high) for way in (look, -look)]
    points = [
        walk.point.scatter(1, which[:, n : n + 1], end[:, n : n + 1])
        for end in ends
        for n in range(which.shape[1])
    ]
    # Looks may be outside the ball, so none of them counts as found.
    looks = torch.cat(points).view(-1, *x.shape[1:])
    losses = judge(looks, walk.rows, keep=False)
    # One that wins out there is as good as the best of those that do not.
    finite = losses.masked_fill(losses == torch.inf, -torch.inf).amax(0)
    ahead, behind = torch.minimum(losses, finite).chunk(2)
    return ((ahead - behind).nan_to_num(0.0, 0.0, 0.0).T / (ends[0] - ends[1])).to(x.dtype)


def _climbed(walk: Walk, which: Tensor, slope: Tensor, times: int, slow: float) -> Walk:
    """Return the walk after one step of Adam in those entries, number `times` of each."""
    mean = _DECAY * walk.mean.gather(1, which) + (1 - _DECAY) * slope
    square = _SQUARE_DECAY * walk.square.gather(1, which) + (1 - _SQUARE_DECAY) * slope.square()
    speed = (mean / (1 - _DECAY**times)) / ((square / (1 - _SQUARE_DECAY**times)).sqrt() + _TINY)
    return replace(
        walk,
        point=walk.point.scatter_add(1, which, walk.reach * slow * speed),
        mean=walk.mean.scatter(1, which, mean),
        square=walk.square.scatter(1, which, square),
    )
