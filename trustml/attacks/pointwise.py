"""Pointwise: noise that is misread, of which as much as possible is put back."""

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle
from trustml.attacks._judge import check_counts
from trustml.attacks.blended_noise import blended
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack


@attack(
    source="Schott et al. 2019, arXiv:1805.09190, appendix",
    needs=Access.LABELS,
    norms=("l0",),
    minimum_norm=True,
)
def pointwise(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 2000,
    start: float = 0.1,
) -> Tensor:
    """Return misread points (B, *S) of which no single entry could be put back, or few could.

    It begins at salt and pepper. Half of the changed entries are tried at once, in a random order;
    after each failure half as many. After the last it begins again, until nothing can be put back.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        start: share of them that is spent on the noise that it begins at.

    Raises:
        BadOption: no queries, or a share that is not in (0, 1).
    """
    check_counts("pointwise", queries=queries)
    if not 0 < start < 1:
        raise BadOption(f"pointwise: start={start} must be above 0 and below 1")
    with frozen(model), torch.no_grad():
        oracle = Oracle(model, y, threat, queries)
        spare = queries - round(start * queries)
        point, found = blended(oracle, x, threat, random, "salt_and_pepper", spare)
        order = random.uniform((x[0].numel(),), "order")
        point[found] = _thinned(oracle, x, point, order, found)[found]
    return threat.project(point, x)


def _thinned(oracle: Oracle, x: Tensor, point: Tensor, order: Tensor, found: Tensor) -> Tensor:
    """Return the points with entries put back, while there is a query left."""
    start, end = x.flatten(1), point.flatten(1)
    moved = start != end
    rank, count = _ranked(order, moved)
    place, chunk, fell = torch.zeros_like(count), (count // 2).clamp_min(1), torch.zeros_like(found)
    while True:
        rows = (found & (oracle.left > 0) & (count > 0)).nonzero()[:, 0]
        if not len(rows):
            return torch.where(moved, end, start).view_as(x)
        tried = (rank[rows] >= place[rows, None]) & (rank[rows] < (place + chunk)[rows, None])
        fewer = moved[rows] & ~tried
        won = oracle(torch.where(fewer, end[rows], start[rows]).view_as(x[rows]), rows)
        moved[rows[won]] = fewer[won]
        fell[rows] |= won
        place[rows] += torch.where(won | (chunk[rows] == 1), chunk[rows], 0)
        chunk[rows] = torch.where(won, chunk[rows], (chunk[rows] // 2).clamp_min(1))
        # A pass is over: those that put something back begin another, the others are done.
        over = place >= count
        again = over & fell
        new_rank, new_count = _ranked(order, moved)
        rank = torch.where(again[:, None], new_rank, rank)
        count = torch.where(again, new_count, torch.where(over, 0, count))
        chunk = torch.where(again, (new_count // 8).clamp_min(1), chunk)
        place, fell = torch.where(over, 0, place), fell & ~over


def _ranked(order: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return each entry's rank among those that moved (B, D), in a random order, and how many."""
    key = order + (~moved).to(order.dtype)
    return key.argsort(dim=1, stable=True).argsort(dim=1, stable=True), moved.sum(1)
