"""Turns and shifts: every one of the grid, or the worst of some."""

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._losses import margin
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.measures.spatial import grid, warped
from trustml.registry import attack
from trustml.threats import check_readable


@attack(
    source="Engstrom et al. 2019, arXiv:1712.02779, section 3 (grid search, worst of k)",
    needs=Access.PROBABILITIES,
    norms=("spatial",),
)
def spatial(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    members: int = 0,
) -> Tensor:
    """Return the mildest turned and shifted images (B, C, H, W) that win, else the nearest to it.

    Args:
        model: gives probabilities.
        x: images (B, C, H, W) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: how far the grid goes, the box and the goal.
        random: the samples' random numbers.
        members: how many of the grid's 775 are tried, drawn at random for each image; 0 tries all.

    Raises:
        BadOption: fewer than no members.
    """
    if members < 0:
        raise BadOption(f"spatial: members={members} must be 0, for all of the grid, or more")
    order = _order(random, members, x)
    everything = torch.tensor(grid(), dtype=torch.float64, device=x.device)
    best, highest = x, torch.full_like(y, -torch.inf, dtype=x.dtype)
    far, box = threat.budget(x).expand(len(x), 1, 1, 1).reshape(-1), (threat.low, threat.high)
    with frozen(model), torch.no_grad():
        answers = model(x)
        check_readable(answers, y)
        rows = (~threat.reached(answers, y)).nonzero()[:, 0]
        for turn in order.T:
            if not len(rows):
                break
            tried = warped(x[rows], far[rows], everything[turn[rows]], box)
            answers = at(model, rows)(tried)
            won = threat.at(rows).reached(answers, y[rows])
            loss = margin(answers, y[rows], threat.targeted).to(highest.dtype)
            loss = loss.masked_fill(won, torch.inf)
            better = loss > highest[rows]
            highest[rows] = torch.maximum(loss, highest[rows])
            best = best.index_copy(0, rows[better], tried[better])
            rows = rows[~won]
    return threat.project(best, x)


def _order(random: Random, members: int, x: Tensor) -> Tensor:
    """Return the numbers (B, k) of the members that are tried, the mildest first."""
    count = len(grid())
    if not 0 < members < count:
        return torch.arange(count, device=x.device).expand(len(x), count)
    lot = random.uniform((count,), "members").to(x.device)
    return lot.argsort(dim=1, stable=True)[:, :members].sort(dim=1).values
