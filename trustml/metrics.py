"""Numbers with intervals: proportions, accuracies, medians, confusion, and scores over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trustml.bayes.conjugate import Beta, Normal, beta_binomial, normal_normal, proportion_mle
from trustml.contracts import Score
from trustml.errors import BadInput

Better = Literal["higher", "lower"]
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Precision and recall of one class; None where the class was never answered or never true."""

    precision: Score | None
    recall: Score | None


def proportion(successes: int, count: int, better: Better = "higher") -> Score:
    """Return y/N with the 95 % credible interval of the Beta-Binomial posterior, uniform prior.

    The tails are equal; at 0 or N successes the whole 5 % lies on the one side there is.

    Raises:
        BadInput: the count is 0, or the counts are not possible.
    """
    value = proportion_mle(successes, count)
    posterior = beta_binomial(Beta(1, 1), successes, count)
    if successes == 0:
        return Score(value, 0.0, posterior.quantile(LEVEL), better)
    if successes == count:
        return Score(value, posterior.quantile(1 - LEVEL), 1.0, better)
    return Score(value, *posterior.interval(LEVEL), better)


def mean_share(shares: Tensor, better: Better, parts: int = 1) -> Score:
    """Return the mean of shares (N,) with the 95 % interval of the Beta posterior, uniform prior.

    The shares count as many trials as would make the variance of their mean: N where each is 0 or
    1, at most as many as there were. So no end is 0 or 1 where both outcomes were seen.

    Args:
        shares: one a sample, each of `parts` trials.
        better: which way is good.
        parts: of a share.

    Raises:
        BadInput: there are none, or one outside [0, 1].
    """
    count = len(shares)
    if not count or not bool(((shares >= 0) & (shares <= 1)).all()):
        raise BadInput("a mean share needs one share or more, each in [0, 1]")
    value = float(shares.double().mean())
    if value in (0.0, 1.0):
        return proportion(round(value * count), count, better)
    variance = float(shares.double().var(correction=0)) / count if count > 1 else math.inf
    most = float(count * parts)
    trials = min(max(value * (1 - value) / variance, 1.0), most) if variance > 0 else most
    low, high = Beta(1 + value * trials, 1 + (1 - value) * trials).interval(LEVEL)
    return Score(value, min(low, value), max(high, value), better)


def accuracy(logits: Tensor, y: Tensor) -> Score:
    """Return the share of rows of logits (B, K) whose largest entry is y (B,).

    Raises:
        BadInput: no rows, shapes that do not fit, labels outside 0..K-1, or logits with NaN.
    """
    _check(logits, y)
    return proportion(int((logits.argmax(1) == y).sum()), len(y))


def confusion(logits: Tensor, y: Tensor) -> Tensor:
    """Return counts (K, K) int64 on the CPU: row = true class, column = answered class.

    Raises:
        BadInput: no rows, shapes that do not fit, labels outside 0..K-1, or logits with NaN.
    """
    _check(logits, y)
    classes = logits.shape[1]
    cells = y.long() * classes + logits.argmax(1)
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes).cpu()


def per_class(logits: Tensor, y: Tensor) -> tuple[ClassScores, ...]:
    """Return precision and recall of each of the K classes.

    Raises:
        BadInput: no rows, shapes that do not fit, labels outside 0..K-1, or logits with NaN.
    """
    counts = confusion(logits, y)
    columns = zip(
        counts.diagonal().tolist(), counts.sum(0).tolist(), counts.sum(1).tolist(), strict=True
    )
    return tuple(
        ClassScores(
            proportion(right, answered) if answered else None,
            proportion(right, true) if true else None,
        )
        for right, answered, true in columns
    )


def median(
    values: Sequence[float] | Tensor,
    better: Better,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Score:
    """Return the median with a distribution-free interval: two of the values in order.

    Order statistics l and N+1-l enclose the true median with probability 1 - 2 P(Bin(N, ½) < l),
    whatever the distribution; the largest l with at least 95 % is taken. Fewer than 6 values cannot
    give 95 %: then the ends are the range of the quantity, `low` and `high`. A value may be +inf
    (an attack that never succeeded has no finite distance).

    Raises:
        BadInput: no values, or NaN or -inf among them.
    """
    ordered = sorted(float(value) for value in values)
    if not ordered:
        raise BadInput("no values: there is no median of nothing")
    if any(math.isnan(value) or value == -math.inf for value in ordered):
        raise BadInput("NaN or -inf among the values: a median needs numbers or +inf")
    count = len(ordered)
    middle = 0.5 * (ordered[(count - 1) // 2] + ordered[count // 2])
    rank = _rank(count)
    if rank == 0:
        return Score(middle, min(low, ordered[0]), max(high, ordered[-1]), better)
    return Score(middle, ordered[rank - 1], ordered[count - rank], better)


def pooled(scores: Sequence[Score], *, low: float = -math.inf, high: float = math.inf) -> Score:
    """Return the score of a recipe over its seeds, all scored on the same test data.

    Value: the Normal-Normal posterior mean under a flat prior. Interval: two sources in quadrature,
    the spread between seeds (Student's t, for the variance comes from these few seeds) and the mean
    interval of one seed, which more seeds on the same test data do not shrink. Cut to [low, high],
    the range of the quantity. One score is returned as it is.

    Raises:
        BadInput: no scores, scores that disagree on what is better, or values that are not finite.
    """
    if not scores or len({score.better for score in scores}) > 1:
        raise BadInput("pooling needs one or more scores that agree on which way is better")
    if len(scores) == 1:
        return scores[0]
    values = [score.value for score in scores]
    centre = math.fsum(values) / len(values)
    spread = math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)
    seeds = 0.0
    if spread > 0:
        posterior = normal_normal(Normal(0, math.inf), values, spread)
        centre, seeds = posterior.mean, _student(len(values) - 1) * math.sqrt(posterior.variance)
    elif not math.isfinite(centre):
        raise BadInput("a score that is not finite cannot be pooled over seeds")
    below = math.fsum(score.value - score.low for score in scores) / len(scores)
    above = math.fsum(score.high - score.value for score in scores) / len(scores)
    return Score(
        centre,
        max(low, centre - math.hypot(seeds, below)),
        min(high, centre + math.hypot(seeds, above)),
        scores[0].better,
    )


def _rank(count: int) -> int:
    """Return the largest l with 2 P(Bin(count, ½) < l) ≤ 5 %, or 0."""
    from scipy.special import bdtr

    rank = int(0.5 * count - math.sqrt(count)) + 1  # near the answer; the loops below make it exact
    rank = max(rank, 0)
    while 2 * bdtr(rank, count, 0.5) <= 1 - LEVEL:
        rank += 1
    while rank > 0 and 2 * bdtr(rank - 1, count, 0.5) > 1 - LEVEL:
        rank -= 1
    return rank


def _student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _check(logits: Tensor, y: Tensor) -> None:
    if logits.ndim != 2 or y.shape != logits.shape[:1]:
        raise BadInput(
            f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} do not fit: "
            "give (B, K) and (B,)"
        )
    if not len(y):
        raise BadInput("no rows: there is nothing to score")
    if bool(logits.isnan().any()):
        raise BadInput("NaN among the logits: the model's answer is not a number")
    if int(y.min()) < 0 or int(y.max()) >= logits.shape[1]:
        raise BadInput(f"labels must lie in 0..{logits.shape[1] - 1}, one for each logit")
