"""Sparse-RS: a random search over which few entries change, and to what."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._flights import take
from trustml.attacks._judge import Judge, check_counts, reach
from trustml.attacks._losses import LossName
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack

# From which of 10 000 queries on the share of entries swapped at once is divided by what.
_DIVISORS = (
    (8000, 20), (6000, 15), (4000, 12), (2000, 10), (1000, 8), (500, 6), (200, 5), (50, 4), (0, 2),
)  # fmt: skip

Walls = tuple[float, float] | None


@dataclass(frozen=True, slots=True, eq=False)
class Hunt:
    """Samples `rows` (B,), each at `point` (B, D), and its loss.

    `order` (B, D) are the entries, those that are changed first: `changed` (B,) of them.
    """

    rows: Tensor
    x: Tensor
    point: Tensor
    loss: Tensor
    order: Tensor
    changed: Tensor


@attack(
    source="Croce et al. 2022, arXiv:2006.12834; image: Pomponi et al. 2022, arXiv:2202.02236",
    needs=Access.PROBABILITIES,
    norms=("l0",),
)
def sparse_rs(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    swapped: float = 0.3,
    values: Literal["walls", "image"] = "walls",
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss met while swapping which entries are changed.

    Each query puts some of the changed entries back and changes as many others, fewer and fewer.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        swapped: share of the changed entries that is swapped at once, before it falls.
        values: what entries change to: a wall of the box, one at which they are not yet, or another
            entry of the same input, which is the idea of Pixle.
        loss: what is climbed.

    Raises:
        BadOption: no queries, or a share that is not in (0, 1].
        MethodFailed: the model answers NaN.
    """
    check_counts("sparse_rs", queries=queries)
    if not 0 < swapped <= 1:
        raise BadOption(f"sparse_rs: swapped={swapped} must be above 0 and at most 1")
    walls = (threat.low, threat.high) if values == "walls" else None
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        hunt = _start(x, reach(x, threat).long(), random, walls)
        while len(left := judge.going(hunt.rows, 1)):
            if len(left) < len(hunt.rows):
                hunt = take(hunt, left)
            done = 10_000 * step // queries
            share = swapped / next(by for first, by in _DIVISORS if first <= done)
            tried = _swapped(hunt, random.at(hunt.rows), share, walls, step) if step else hunt
            losses = judge(tried.point.view(-1, *x.shape[1:]), hunt.rows)[0]
            better = losses >= hunt.loss
            hunt = replace(
                hunt,
                point=torch.where(better[:, None], tried.point, hunt.point),
                order=torch.where(better[:, None], tried.order, hunt.order),
                loss=torch.where(better, losses, hunt.loss),
            )
            step += 1
    return threat.project(judge.best, x)


def _start(x: Tensor, changed: Tensor, random: Random, walls: Walls) -> Hunt:
    """Return hunts at random points."""
    flat = x.flatten(1)
    order = random.uniform((flat.shape[1],), "order").argsort(dim=1, stable=True)
    new = _values(_padded(flat), order, random, walls, 0)
    first = torch.arange(flat.shape[1], device=x.device) < changed[:, None]
    point = flat.scatter(1, order, torch.where(first, new, flat.gather(1, order)))
    rows, lowest = torch.arange(len(x), device=x.device), torch.full_like(flat[:, 0], -torch.inf)
    return Hunt(rows, flat, point, lowest, order, changed)


def _swapped(hunt: Hunt, random: Random, share: float, walls: Walls, step: int) -> Hunt:
    """Return the hunts with some entries put back and as many others changed.

    Where all may change there are no others: the same ones get other values.
    """
    spare = len(hunt.order[0]) - hunt.changed
    count = torch.minimum((share * hunt.changed).round().long().clamp_min(1), hunt.changed)
    count = torch.where(spare > 0, torch.minimum(count, spare), count)
    width = (max(1, int(count.max())),)
    back = _places(random.uniform(width, "back", step), hunt.changed, count)
    forth = _places(random.uniform(width, "forth", step), spare.clamp_min(1), count)
    # Samples that swap fewer than others swap one more column, which is none, with itself.
    void = len(hunt.order[0])
    back = torch.where(back < 0, void, back)
    forth = torch.where(forth < 0, void, forth + hunt.changed[:, None])
    forth = torch.where((spare > 0)[:, None], forth, back)
    order, point, x = (_padded(part) for part in (hunt.order, hunt.point, hunt.x))
    order[:, void] = void
    leave, enter = order.gather(1, back), order.gather(1, forth)
    point.scatter_(1, leave, x.gather(1, leave))
    point.scatter_(1, enter, _values(x, enter, random, walls, step))
    order.scatter_(1, back, enter).scatter_(1, forth, leave)
    return replace(hunt, point=point[:, :void], order=order[:, :void])


def _places(draw: Tensor, length: Tensor, count: Tensor) -> Tensor:
    """Return `count` (B,) places below `length` (B,), none twice; −1 in the columns beyond.

    One in each of as many stretches of what is in a random order anyhow.
    """
    turn = torch.arange(draw.shape[1], device=draw.device)
    length, count = length[:, None], count[:, None]
    some = count.clamp_min(1)
    first, last = turn * length // some, (turn + 1) * length // some - 1
    place = torch.minimum(first + (draw * (last - first + 1)).long(), last)
    return torch.where(turn < count, place, -1)


def _values(x: Tensor, entries: Tensor, random: Random, walls: Walls, step: int) -> Tensor:
    """Return new values (B, n) for the entries: a wall where x is not, or another entry of x.

    x has one more column, which is none of its entries.
    """
    shape = (entries.shape[1],)
    if walls is None:
        return x.gather(1, random.integers(x.shape[1] - 1, shape, "value", step))
    low, high = walls
    old, up = x.gather(1, entries), random.uniform(shape, "value", step) < 0.5
    up = (up | (old <= low)) & (old < high)
    return torch.where(up, high, low).to(x.dtype)


def _padded(part: Tensor) -> Tensor:
    return torch.nn.functional.pad(part, (0, 1))
