"""Means with bootstrap intervals, and whether one explanation is really better than another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from trustml.contracts import Score
from trustml.errors import BadInput, NotApplicable
from trustml.metrics import LEVEL, median

Better = Literal["higher", "lower"]
RESAMPLES = 4000
# Up to so many samples the resamples are kept: 32 MB.
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One number a sample (B,) and their score; `undefined` samples have none (NaN).

    `note` is what a reader of the score should know.
    """

    values: Tensor
    score: Score
    undefined: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the first is than the second on the same samples, and whether that is sure.

    `score` is positive where the first is better; `p` is two-sided, by the paired bootstrap.
    """

    score: Score
    p: float
    verdict: Literal["better", "worse", "not distinguishable"]


def mean_of(values: Tensor, better: Better, *, seed: int = 0) -> Measured:
    """Return the mean of values (B,) with its 95 % percentile bootstrap interval.

    Raises:
        NotApplicable: not one value is a number.
    """
    kept = _defined(values)
    low, high = _ends(_resampled(kept, seed))
    score = Score(float(kept.mean()), low, high, better)
    return Measured(values, score, len(values) - len(kept))


def median_of(values: Tensor, better: Better) -> Measured:
    """Return the median of values (B,), none below 0, with its distribution-free interval.

    Raises:
        NotApplicable: not one value is a number.
    """
    kept = _defined(values)
    return Measured(values, median(kept, better, low=0.0), len(values) - len(kept))


def compare(first: Measured, second: Measured, *, seed: int = 0) -> Difference:
    """Return by how much the first is better, from samples that both have a value for.

    Raises:
        BadInput: other samples, or scores that disagree on which way is better.
        NotApplicable: no sample has a value of both.
    """
    better = first.score.better
    if first.values.shape != second.values.shape or better != second.score.better:
        raise BadInput("only measurements of one metric on the same samples can be compared")
    sign = 1.0 if better == "higher" else -1.0
    gaps = _defined(sign * (first.values.double() - second.values.double()))
    means = _resampled(gaps, seed)
    low, high = _ends(means)
    above, below = (float((means * way <= 0).double().mean()) for way in (1, -1))
    p = min(1.0, 2 * max(min(above, below), 1 / (2 * RESAMPLES)))
    score = Score(float(gaps.mean()), low, high, "higher")
    return Difference(score, p, _verdict(score.value, p))


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences with p raised for their number (Holm 1979), verdicts with them."""
    order = sorted(range(len(differences)), key=lambda place: differences[place].p)
    raised, highest = list(differences), 0.0
    for rank, place in enumerate(order):
        one = differences[place]
        highest = max(highest, min(1.0, (len(order) - rank) * one.p))
        raised[place] = Difference(one.score, highest, _verdict(one.score.value, highest))
    return raised


def _verdict(value: float, p: float) -> Literal["better", "worse", "not distinguishable"]:
    if p > 1 - LEVEL:
        return "not distinguishable"
    return "better" if value > 0 else "worse"


def _defined(values: Tensor) -> Tensor:
    kept = values.detach().double().cpu()
    kept = kept[~kept.isnan()]
    if not len(kept):
        raise NotApplicable("not one sample has a value: there is nothing to score")
    return kept


def _resampled(values: Tensor, seed: int) -> Tensor:
    """Return the means of as many samples drawn with replacement, RESAMPLES of them."""
    if len(values) <= _REMEMBERED:
        return _shares(len(values), seed) @ values
    return torch.cat([values[drawn].mean(1) for drawn in _draws(len(values), seed)])


@lru_cache(maxsize=2)  # every metric of an exam has as many samples
def _shares(count: int, seed: int) -> Tensor:
    """Return each resample's share of each sample (RESAMPLES, count)."""
    cells = torch.cat(list(_draws(count, seed)))
    ones = torch.ones((), dtype=torch.float64).expand_as(cells)
    return torch.zeros(RESAMPLES, count).double().scatter_add_(1, cells, ones) / count


def _draws(count: int, seed: int) -> Iterator[Tensor]:
    """Yield the samples drawn (rows, count), RESAMPLES rows in all."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, RESAMPLES, 500):
        rows = min(500, RESAMPLES - start)
        yield torch.randint(count, (rows, count), generator=generator)


def _ends(means: Tensor) -> tuple[float, float]:
    ends = means.quantile(torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2]).double())
    return float(ends[0]), float(ends[1])
