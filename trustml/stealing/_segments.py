"""Which segments between labelled points to bisect next."""

import torch
from torch import Tensor

from trustml.stealing._borders import Borders, equations
from trustml.stealing._seeds import Seeds

CANDIDATES = 3000
STATIONS = 63


def balanced(found: Seeds, met: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, ...]:
    """Return rows (count,) of starts and of ends, of two labels, the least met classes first.

    Args:
        found: labelled points.
        met: (K,) how many borders of each class are known.
        count: segments wanted.
        random: of the thief.
    """
    met = met.double().clone()
    share = torch.bincount(found.labels, minlength=len(met)).double()
    starts, ends = [], []
    for _ in range(count):
        weight = (1 / ((1 + met) * share))[found.labels]
        start = int(torch.multinomial(weight, 1, generator=random))
        weight[found.labels == found.labels[start]] = 0
        end = int(torch.multinomial(weight, 1, generator=random))
        starts.append(start)
        ends.append(end)
        met[found.labels[[start, end]]] += 1
    return torch.tensor(starts), torch.tensor(ends)


def informative(
    found: Seeds, table: Tensor, frame: Tensor, rows: Tensor, count: int, random: torch.Generator
) -> tuple[Tensor, ...]:
    """Return rows (count,) of starts and of ends whose borders tell most of what is least known.

    Where a segment leaves its start's class is foretold by the parameters so far; the next segment
    is always the one that lowers the sum of all their variances most (A-optimal, greedily).

    Args:
        found: labelled points.
        table: (K, D+1) parameters so far, of norm 1.
        frame: (K, K-1) as `shift_free` gives it.
        rows: (N, P) equations so far, each divided by its error's size.
        count: segments wanted.
        random: of the thief.
    """
    one, two = torch.randint(len(found.points), (2, CANDIDATES), generator=random)
    differ = found.labels[one] != found.labels[two]
    one, two = one[differ], two[differ]
    logits = found.points @ table[:, :-1].T + table[:, -1]
    way = torch.linspace(0, 1, STATIONS + 2, dtype=torch.float64)[1:]
    leaving, into = torch.full_like(one, -1), found.labels[one]
    for step in reversed(range(len(way))):
        there = torch.lerp(logits[one], logits[two], way[step]).argmax(1)
        left = there != found.labels[one]
        leaving = torch.where(left, step, leaving)
        into = torch.where(left, there, into)
    kept = leaving >= 0
    one, two, into = one[kept], two[kept], into[kept]
    own = found.labels[one]
    here = logits[one, own] - logits[one, into]
    slope = here - (logits[two, own] - logits[two, into])
    place = (here / slope).nan_to_num(0.5, 0.5, 0.5).clamp(0, 1)[:, None]
    points = torch.lerp(found.points[one], found.points[two], place)
    foretold = equations(Borders(points, own, into, torch.zeros_like(points)), frame)
    size = slope.abs().clamp_min(float(slope.abs().median()) * 1e-2)
    chosen = a_optimal(foretold / size[:, None], _covariance(rows, frame.T @ table), count)
    return one[chosen], two[chosen]


def _covariance(rows: Tensor, table: Tensor) -> Tensor:
    """Return the inverse (P, P) of rowsᵀ rows, in which the scale, along the table, is known."""
    known = table.flatten() / table.norm()
    information = rows.T @ rows
    return torch.linalg.inv(information + torch.outer(known, known) * information.trace())


def a_optimal(rows: Tensor, covariance: Tensor, count: int) -> Tensor:
    """Return `count` of the rows (N, P), each the one that lowers the variances' sum most."""
    carried = rows @ covariance
    taken: list[int] = []
    for _ in range(min(count, len(rows))):
        leverage = (carried * rows).sum(1)
        gain = carried.square().sum(1) / (1 + leverage)
        gain[taken] = -1.0
        best = int(gain.argmax())
        taken.append(best)
        shared = carried @ rows[best] / (1 + leverage[best])
        carried = carried - torch.outer(shared, carried[best])
    return torch.tensor(taken, dtype=torch.long)
