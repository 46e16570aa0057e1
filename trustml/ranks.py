"""Samples grouped by suspicion, and what can be counted along their order.

Every function of sides takes many at once, (R, U): a row a resample, a column a group of equal
suspicion. Its first positional side is the one whose share is looked at; its order is the caller's.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from trustml.errors import BadInput

Counts = npt.NDArray[Any]  # whole numbers, or shares of samples
Values = npt.NDArray[np.float64]
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """Groups of equal suspicion, the most suspicious first: suspicions (U,), counts (U,) a side."""

    suspicion: npt.NDArray[np.float64]
    ordinary: Counts
    odd: Counts

    @property
    def constant(self) -> bool:
        """Whether all samples are equally suspicious."""
        return len(self.suspicion) == 1


@dataclass(frozen=True, eq=False)
class Side:
    """One side's counts (R, U) in an order, with those up to each group."""

    counts: Counts

    @cached_property
    def upto(self) -> Counts:
        """How many there are up to each group, itself included, (R, U)."""
        return self.counts.cumsum(1)

    @property
    def total(self) -> Counts:
        """How many there are, (R,)."""
        total: Counts = self.upto[:, -1]
        return total

    @cached_property
    def backwards(self) -> "Side":
        """The same counts in the opposite order."""
        return Side(np.ascontiguousarray(self.counts[:, ::-1]))


def ranked(
    ordinary: Tensor,
    odd: Tensor,
    names: tuple[str, str] = ("ordinary", "odd"),
    *,
    empty: bool = False,
) -> Ranked:
    """Return the groups of suspicions (B,) and (B',); infinite ones have their place too.

    Args:
        ordinary: suspicions of ordinary samples.
        odd: suspicions of odd ones.
        names: what messages call the two sides.
        empty: whether a side may have no sample.

    Raises:
        BadInput: no sample on a side, suspicions that are not (B,), or one that is NaN.
    """
    for name, side in zip(names, (ordinary, odd), strict=True):
        if side.ndim != 1:
            raise BadInput(f"suspicions of the {name} samples: {tuple(side.shape)}; give (B,)")
        if not len(side) and not empty:
            raise BadInput(f"no {name} sample: there is nothing to tell the others from")
        if bool(side.isnan().any()):
            raise BadInput(
                f"NaN among the suspicions of the {name} samples ({int(side.isnan().sum())} of "
                f"{len(side)}): a score that is not a number ranks nothing"
            )
    flat = np.concatenate([side.detach().double().cpu().numpy() for side in (ordinary, odd)])
    suspicion, group = np.unique(-flat, return_inverse=True)
    sides = group[: len(ordinary)], group[len(ordinary) :]
    counts = (np.bincount(side, minlength=len(suspicion)) for side in sides)
    return Ranked(-suspicion, *counts)


def auroc(groups: Ranked) -> tuple[float, float]:
    """Return the AUROC and DeLong's variance of it, NaN where a side has one sample only."""
    ordinary, odd = groups.ordinary.astype(float), groups.odd.astype(float)
    # Of each group: the share of the other side that it wins against, ties by half.
    won = (ordinary.sum() - ordinary.cumsum() + 0.5 * ordinary) / ordinary.sum()
    lost = (odd.cumsum() - 0.5 * odd) / odd.sum()
    value = float((odd * won).sum() / odd.sum())
    variance = 0.0
    for side, placed in ((odd, won), (ordinary, lost)):
        count = side.sum()
        if count < 2:
            return value, math.nan
        variance += float((side * (placed - value) ** 2).sum() / (count - 1) / count)
    return value, variance


def average_precision(positive: Side, negative: Side) -> Values:
    """Return Σ over groups of precision · step in recall, (R,); NaN without a positive."""
    flagged = np.maximum(positive.upto + negative.upto, ROUNDING)
    steps = np.einsum("ru,ru->r", positive.counts / flagged, positive.upto)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Values = steps / positive.total
    return result


def passing(positive: Side, negative: Side, at: float) -> Values:
    """Return the share of negatives in the first groups that hold `at` of the positives, (R,)."""
    # 0.55 · 100 is a little above 55 in floating point, and 55 is enough.
    needed = at * positive.total - ROUNDING * (1 + positive.total)
    last = (positive.upto >= needed[:, None]).argmax(1)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Values = np.take_along_axis(negative.upto, last, 1)[:, 0] / negative.total
    return result


@lru_cache(maxsize=1)  # the excess reads it too
def aurc(ordinary: Side, odd: Side) -> Values:
    """Return the mean error rate of the i first, i = 1 … B, over all orders in a group, (R,).

    With a samples and e errors before a group of g with w errors, the i-th of the group brings
    (e + i·w/g) / (a + i) on average; the sum over i is w + (e - a·w/g)·(H(a+g) - H(a)).
    """
    right, wrong = ordinary.counts, odd.counts
    after = ordinary.upto + odd.upto
    reached = harmonic(after)
    steps = reached.copy()
    steps[:, 1:] -= reached[:, :-1]
    steps /= np.maximum(right + wrong, ROUNDING)
    # g·(e - a·w/g), which is e·(g - w) - (a - e)·w.
    excess = (odd.upto - wrong) * right - (ordinary.upto - right) * wrong
    area: Values = (odd.total + np.einsum("ru,ru->r", excess, steps)) / after[:, -1]
    return area


def excess_aurc(ordinary: Side, odd: Side) -> Values:
    """Return the AURC less that of the order with every error last, (R,)."""
    right, wrong = ordinary.total, odd.total
    total = right + wrong
    best = (wrong - right * (harmonic(total) - harmonic(right))) / total
    excess: Values = np.maximum(aurc(ordinary, odd) - best, 0.0)
    return excess


def augrc(ordinary: Side, odd: Side) -> Values:
    """Return the area under (accepted and wrong) / B against coverage, the first accepted first.

    Piecewise linear, so exact: pairs of an error accepted before a right answer (ties by half),
    and errors among themselves. (R,)
    """
    later = ordinary.total[:, None] - ordinary.upto + 0.5 * ordinary.counts
    pairs = np.einsum("ru,ru->r", odd.counts, later)
    area: Values = (pairs + 0.5 * odd.total**2.0) / (ordinary.total + odd.total) ** 2.0
    return area


def displaced(
    groups: Ranked, share: Callable[[int], float], wrong_end: bool
) -> tuple[Counts, Counts]:
    """Return counts (U + 2,) with a share of each side moved to one end of the order.

    A side without a sample takes its share from the other.

    Args:
        groups: the samples.
        share: number of samples → share of them to move.
        wrong_end: odd ones to the least suspicious end and ordinary ones to the most; else the
            other way round.
    """
    sides = []
    total = int((groups.ordinary + groups.odd).sum())
    lent = [0 if side.sum() else share(total) * total for side in (groups.ordinary, groups.odd)]
    for place, side in enumerate((groups.ordinary, groups.odd)):
        count = int(side.sum())
        moved = share(count) * count if count else lent[place]
        kept = side * ((count - moved - lent[1 - place]) / count if count else 0.0)
        first = (place == 0) == wrong_end
        sides.append(np.concatenate([[moved * first], np.maximum(kept, 0), [moved * (not first)]]))
    return sides[0], sides[1]


def harmonic(numbers: Counts) -> Values:
    """Return H(n) = 1 + ½ + … + 1/n, and its continuation for numbers that are not whole."""
    if not np.issubdtype(numbers.dtype, np.integer):
        from scipy.special import digamma

        continued: Values = digamma(numbers + 1.0) + np.euler_gamma
        return continued
    return _table(int(numbers.max()))[numbers]


@cache
def _table(most: int) -> Values:
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1.0, most + 1))])
