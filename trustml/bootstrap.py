"""The bootstrap: seeded resamples as counts, and 95 % intervals of what is read off them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trustml.contracts import Score
from trustml.metrics import LEVEL, Better, proportion
from trustml.ranks import Counts, Ranked, Side, Values, displaced

REPLICATES = 300
SEED = 20_111
BLOCK = 200_000  # numbers drawn at a time, so that they stay near the processor
SLIGHT = 1e-12


@dataclass(frozen=True, slots=True)
class Metric:
    """How a number is read off the ordinary and the odd side, the most suspicious group first.

    Args:
        read: sides → (R,).
        better: which way is good.
        share_of: the side whose samples it is a share of, if it is a proportion.
    """

    read: Callable[[Side, Side], Values]
    better: Better
    share_of: Literal["ordinary", "odd"] | None = None


def scores_of(groups: Ranked, metrics: Mapping[str, Metric], *, together: bool) -> dict[str, Score]:
    """Return each metric with its bootstrap interval; all metrics see the same resamples.

    Args:
        groups: the samples by suspicion.
        metrics: name → function of the sides.
        together: draw from all samples, so that the share of odd ones varies too; else each side
            keeps its size.
    """
    given = Side(groups.ordinary[None]), Side(groups.odd[None])
    drawn: dict[str, list[Values]] = {name: [] for name in metrics}
    for sides in _draws(groups, together):
        for name, metric in metrics.items():
            drawn[name].append(metric.read(*sides))
    scores = {}
    for name, metric in metrics.items():
        value = float(metric.read(*given)[0])
        score = percentile(value, np.concatenate(drawn[name]), metric.better)
        if metric.share_of:
            score = _with_count(score, int(getattr(groups, metric.share_of).sum()))
        elif score.high - score.low < SLIGHT and not groups.constant:
            score = _widened(groups, metric, score)
        scores[name] = score
    return scores


def resampled(parts: Sequence[Counts], size: int) -> Iterator[tuple[Counts, ...]]:
    """Yield blocks of counts (R, size) a part: how often each cell came when it was drawn anew.

    Args:
        parts: for each part the cell 0 … size-1 of each of its samples; a part keeps its size.
        size: number of cells.
    """
    generator = np.random.default_rng(SEED)
    rows = max(1, BLOCK // max(size, *map(len, parts)))
    for start in range(0, REPLICATES, rows):
        count = min(rows, REPLICATES - start)
        offsets = np.arange(count)[:, None] * size
        drawn = (cells[generator.integers(0, len(cells), (count, len(cells)))] for cells in parts)
        yield tuple(
            np.bincount((part + offsets).ravel(), minlength=count * size).reshape(count, size)
            for part in drawn
        )


def percentile(value: float, replicates: Values, better: Better) -> Score:
    """Return the value with the middle 95 % of its replicates, stretched to hold the value.

    Replicates that are NaN (a class was not drawn) are left out.
    """
    known = replicates[~np.isnan(replicates)]
    if not len(known):
        return Score(value, value, value, better)
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Score(value, min(value, float(low)), max(value, float(high)), better)


def reflected(value: float, replicates: Values, better: Better, least: float) -> Score:
    """Return the value with the basic interval 2·value - quantile, cut below at `least`.

    For a number that noise can only raise: its replicates lie too high by as much as it does.
    """
    low, high = np.quantile(replicates, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    ends = 2 * value - float(high), 2 * value - float(low)
    return Score(value, max(least, min(value, ends[0])), max(value, ends[1]), better)


def unseen(count: int) -> float:
    """Return the largest share that can hide, at 95 %, from `count` samples that never show it."""
    return float(1 - (1 - LEVEL) ** (1 / count))


def _with_count(score: Score, count: int) -> Score:
    """Return the share with the wider of its interval and the Beta-Binomial at its threshold."""
    fixed = proportion(round(score.value * count), count)
    return Score(score.value, min(score.low, fixed.low), max(score.high, fixed.high), score.better)


def _draws(groups: Ranked, together: bool) -> Iterator[tuple[Side, Side]]:
    """Yield blocks of counts (R, U) of ordinary and odd samples."""
    size = len(groups.ordinary)
    places = np.arange(size)
    ordinary, odd = (np.repeat(places, side) for side in (groups.ordinary, groups.odd))
    if not together:
        yield from ((Side(o), Side(d)) for o, d in resampled((ordinary, odd), size))
        return
    for (block,) in resampled((np.concatenate([ordinary, odd + size]),), 2 * size):
        yield Side(block[:, :size]), Side(block[:, size:])


def _widened(groups: Ranked, metric: Metric, score: Score) -> Score:
    """Return the score with the interval of what its samples may not have shown.

    A resample of a perfect order is perfect, so its replicates say nothing. Instead: the largest
    share of each class that can hide from as many samples stands at the wrong end, or at the right.
    """
    ends = [
        float(metric.read(*(Side(side[None]) for side in displaced(groups, unseen, wrong)))[0])
        for wrong in (True, False)
    ]
    return Score(score.value, min(score.value, *ends), max(score.value, *ends), score.better)
