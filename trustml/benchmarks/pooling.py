"""One row over models that differ in their seed alone: a Normal mean with a Normal prior."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from trustml.bayes.conjugate import Normal, normal_normal
from trustml.benchmarks.plan import Case
from trustml.contracts import Cost, Record, Score
from trustml.errors import NotApplicable
from trustml.metrics import proportion

POOLED = "pooled"
# Of a 95 % interval, its half width is so many standard deviations.
_WIDTH = 1.959963984540054
# How scores begin that are no shares.
_UNBOUNDED = ("median ", "relative ", "delay ", "latency ", "review ", "deviations")
# What is yes or no of each model, so that seeds are counted; and what has no mean.
_COUNTED, _NAMED = ("alarm raised", "target named"), "oddest class"


def pools(of_seeds: Sequence[Sequence[Case]], label: str) -> list[Case]:
    """Return a case for each row that all seeds have; its options name the cases that it pools."""
    found = []
    for rows in zip(*of_seeds, strict=True):
        first = rows[0]
        own = f"{label}-seed{first.seed}"
        assert first.name.startswith(own)
        name = f"{label}-seeds{first.name.removeprefix(own)}"
        found.append(replace(first, name=name, kind=POOLED, text="", options={"of": [
            row.name for row in rows
        ]}))  # fmt: skip
    return found


def pooled(blank: Record, records: Sequence[Record]) -> Record:
    """Return the record with each score pooled over the finished records of the other seeds.

    Raises:
        NotApplicable: fewer than two are finished.
    """
    done = [record for record in records if record.status == "done"]
    if len(done) < 2:
        reasons = {record.reason for record in records}
        if len(reasons) == 1 and all(record.status == "skipped" for record in records):
            raise NotApplicable(reasons.pop())
        raise NotApplicable(f"{len(done)} of {len(records)} seeds are finished; pooling takes two")
    names = [name for name in done[0].scores if all(name in r.scores for r in done)]
    names = [name for name in names if name != _NAMED]
    missing = [str(record.seed) for record in records if record.status != "done"]
    notes = [f"pooled without seed {', '.join(missing)}"] if missing else []
    notes += [note for record in done for note in record.notes]
    cost = {
        name: statistics.fmean(getattr(record.cost, name) for record in done)
        for name in ("seconds", "forwards", "backwards", "queries")
    }
    return replace(
        blank,
        scores={name: _over([r.scores[name] for r in done], name) for name in names},
        cost=Cost(**cost, peak_mib=None),
        status="done",
        notes=tuple(dict.fromkeys(notes)),
    )


def _over(scores: Sequence[Score], name: str) -> Score:
    """Return a score over the seeds: the share of them for what is yes or no, else the mean."""
    if name in _COUNTED:
        return proportion(round(sum(s.value for s in scores)), len(scores), scores[0].better)
    # A share lies in [0, 1], however far the seeds are apart; what was seen outside is none.
    least = 0.0 if all(score.low >= 0 for score in scores) else -math.inf
    share = not name.startswith(_UNBOUNDED) and all(score.high <= 1 for score in scores)
    return pooled_score(scores, 1.0 if share else math.inf, least)


def pooled_score(scores: Sequence[Score], most: float = math.inf, least: float = 0.0) -> Score:
    """Return the mean over seeds with a 95 % interval for the mean over all seeds.

    The scores are draws of N(μ, σ²) under a flat Normal prior on μ; σ² is taken from them, so that
    Student's quantile stands where the normal one would be too narrow. What one test set leaves
    open is the same for every seed, so that it is added whole, not divided by their number. Of a
    share (`least` 0, `most` 1) each end is found on the logarithm of the distance to the end of the
    scale on that side, so that it does not reach what was not seen.

    Args:
        scores: of two seeds or more.
        most: the greatest value that the score can have.
        least: the least.
    """
    from scipy import stats

    values = [score.value for score in scores]
    between = statistics.variance(values)
    middle, seeds = statistics.fmean(values), 0.0
    if between > 0:
        belief = normal_normal(Normal(0.0, math.inf), values, between)
        quantile = float(stats.t.ppf(0.975, len(values) - 1))
        middle, seeds = belief.mean, quantile * math.sqrt(belief.variance)
    if (least, most) == (0, 1):
        low = _end(middle, seeds, [(score.value, score.low) for score in scores])
        high = 1 - _end(1 - middle, seeds, [(1 - score.value, 1 - score.high) for score in scores])
        return Score(middle, min(low, middle), max(high, middle), scores[0].better)
    own = statistics.fmean(((score.high - score.low) / (2 * _WIDTH)) ** 2 for score in scores)
    half = math.hypot(_WIDTH * math.sqrt(own), seeds)
    return Score(middle, max(middle - half, least), min(middle + half, most), scores[0].better)


def _end(middle: float, seeds: float, pairs: Sequence[tuple[float, float]]) -> float:
    """Return the lower end of a mean share, by its logarithm; `pairs` are values and their ends."""
    own = [math.log(value / low) if low > 0 else math.inf for value, low in pairs if value > 0]
    if middle <= 0 or not own:
        return 0.0
    return middle * math.exp(-math.hypot(seeds / middle, statistics.fmean(own)))
