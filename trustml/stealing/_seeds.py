"""Labelled inputs to start from: spread over the box, and with some of every class to be found."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from trustml.asking import ask, asked
from trustml.contracts import Access, Victim

ROUNDS = 8
FEW = 4  # a class with less than this part of its even share is looked for


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """Points (N, D) float64 as asked, and the victim's labels (N,)."""

    points: Tensor
    labels: Tensor

    def joined(self, other: "Seeds") -> "Seeds":
        """Return both."""
        return Seeds(torch.cat([self.points, other.points]), torch.cat([self.labels, other.labels]))


def labelled(victim: Victim, points: Tensor) -> Seeds:
    """Return the points (N, D), as the victim takes them, with its labels."""
    points = asked(points, victim)
    return Seeds(points, ask(victim.at(Access.LABELS), points).argmax(1))


def seeds(victim: Victim, pool: Tensor, count: int, random: torch.Generator) -> Seeds:
    """Return `count` labelled points, and up to twice as many more where classes are rare.

    Public inputs are blended with random corners of the box by at least half, so that entries which
    never change in the pool do; without a pool the corners stand alone.
    """
    found = labelled(victim, _drawn(victim, pool, count, random))
    classes = victim.domain.classes
    for _ in range(ROUNDS):
        counts = torch.bincount(found.labels, minlength=classes)
        rare = counts < count / (FEW * classes)
        more = int(min(count // 4, victim.left))
        if not rare.any() or more < 1:
            break
        news = [_drawn(victim, pool, more if bool((counts == 0).any()) else more // 2, random)]
        near = found.points[rare[found.labels]]
        if len(near):
            # A step from a point of a rare class often stays in the class.
            start = near[torch.randint(len(near), (more,), generator=random)]
            step = torch.rand(more, 1, generator=random, dtype=torch.float64) / 2
            news.append(start + step * (_drawn(victim, pool, more, random) - start))
        found = found.joined(labelled(victim, torch.cat(news)[-more:]))
    return found


def _drawn(victim: Victim, pool: Tensor, count: int, random: torch.Generator) -> Tensor:
    domain = victim.domain
    size = prod(domain.shape)
    dense = 0.25 + torch.rand(count, 1, generator=random, dtype=torch.float64) / 2
    corner = torch.rand(count, size, generator=random, dtype=torch.float64) < dense
    low, high = (torch.tensor(side, dtype=torch.float64) for side in (domain.low, domain.high))
    noise = torch.where(corner, high, low)
    if not len(pool):
        return noise
    public = pool.flatten(1).double()
    public = public[torch.randint(len(public), (count,), generator=random)]
    share = torch.rand(count, 1, generator=random, dtype=torch.float64) / 2
    return noise + share * (public - noise)
