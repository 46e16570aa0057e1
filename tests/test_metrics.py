"""Scores with intervals: coverage by enumeration and simulation, counts against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from trustml import metrics
from trustml.contracts import Score
from trustml.errors import BadInput

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_interval_holds_the_value_and_95_percent_of_the_posterior(yn: tuple[int, int]) -> None:
    y, n = yn
    score = metrics.proportion(y, n)
    assert 0 <= score.low <= score.value == y / n <= score.high <= 1
    belief = stats.beta(1 + y, 1 + n - y)
    assert belief.cdf(score.high) - belief.cdf(score.low) == pytest.approx(0.95, abs=1e-9)


def test_ends_are_one_sided() -> None:
    """0 of 59: the upper end of Beta(1, 60) at 95 % is 1 - 0.05^(1/60)."""
    assert metrics.proportion(0, 59, "lower") == Score(
        0.0, 0.0, pytest.approx(1 - 0.05 ** (1 / 60)), "lower"
    )
    assert metrics.proportion(59, 59).low == pytest.approx(0.05 ** (1 / 60))
    assert metrics.proportion(59, 59).high == 1.0


@given(counts)
def test_a_mean_of_zeros_and_ones_is_a_proportion(yn: tuple[int, int]) -> None:
    """Then each sample is one trial, and both are the same posterior."""
    y, n = yn
    shares = (torch.arange(n) < y).double()
    one, other = metrics.mean_share(shares, "higher", 5), metrics.proportion(y, n)
    if n > 1:
        assert (one.low, one.high) == pytest.approx((other.low, other.high))
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert (one.low == 0) == (y == 0)


def test_a_mean_of_shares_covers_what_it_estimates() -> None:
    """Samples whose own rates differ, five answers each: 95 % of the intervals hold the mean rate.

    Rates from Beta(0.2, 1.8), so that most samples are right in all five and the mean error is
    0.1; with 1000 draws of 60 samples, 95 % ± 2.
    """
    draw = np.random.default_rng(3)
    hits = 0
    for _ in range(1000):
        errors = torch.from_numpy(draw.binomial(5, draw.beta(0.2, 1.8, 60)) / 5)
        score = metrics.mean_share(errors, "lower", 5)
        hits += score.low <= 0.1 <= score.high
    assert 925 <= hits <= 975


def test_a_mean_share_is_never_none_where_something_was_seen() -> None:
    """One of 300 answers: a normal interval begins at 0. Even shares are as many as the answers."""
    shares = torch.zeros(60)
    shares[0] = 0.2
    score = metrics.mean_share(shares, "lower", 5)
    assert 0 < score.low < score.value < score.high
    even = metrics.mean_share(torch.full((60,), 0.2), "lower", 5)
    wanted = metrics.proportion(60, 300)
    assert (even.low, even.high) == pytest.approx((wanted.low, wanted.high))
    assert metrics.mean_share(torch.zeros(60), "lower", 5).high == metrics.proportion(0, 60).high
    for bad in (torch.zeros(0), torch.tensor([0.5, 1.5]), torch.tensor([math.nan])):
        with pytest.raises(BadInput):
            metrics.mean_share(bad, "lower")


def test_average_coverage_over_the_prior_is_95_percent() -> None:
    """Credible intervals cover exactly their level on average over the prior they assume."""
    n, theta = 40, (np.arange(4000) + 0.5) / 4000
    covered = np.zeros_like(theta)
    for y in range(n + 1):
        score = metrics.proportion(y, n)
        inside = (score.low <= theta) & (theta <= score.high)
        covered += stats.binom(n, theta).pmf(y) * inside
    assert covered.mean() == pytest.approx(0.95, abs=1e-3)


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(0, 4, (500,), generator=generator)
    logits = torch.randn(500, 5, generator=generator) + 2 * torch.eye(5)[y]
    logits[:, 4] = -9.0  # class 4 is neither true nor answered
    return logits, y


def test_counts_are_those_of_scikit_learn(answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, y = answers
    answered = logits.argmax(1)
    assert metrics.accuracy(logits, y).value == accuracy_score(y, answered)
    assert (
        metrics.confusion(logits, y).numpy() == confusion_matrix(y, answered, labels=range(5))
    ).all()
    precision, recall, _, _ = precision_recall_fscore_support(y, answered, labels=range(4))
    scores = metrics.per_class(logits, y)
    assert [s.precision.value for s in scores[:4]] == pytest.approx(list(precision))
    assert [s.recall.value for s in scores[:4]] == pytest.approx(list(recall))
    assert scores[4] == metrics.ClassScores(None, None)


@pytest.mark.parametrize("count", [6, 7, 20, 101])
def test_median_interval_covers_at_least_95_percent_and_is_the_tightest_such(count: int) -> None:
    """On the values 1..N the ends are ranks; their coverage is a Binomial sum (scipy.stats)."""
    score = metrics.median(range(1, count + 1), "higher")
    low, high = int(score.low), int(score.high)
    assert low + high == count + 1
    half = stats.binom(count, 0.5)
    assert 2 * half.cdf(low - 1) <= 0.05 < 2 * half.cdf(low)


def test_median_interval_covers_by_simulation() -> None:
    generator = np.random.default_rng(0)
    hits = sum(
        (score := metrics.median(generator.exponential(size=25), "lower")).low
        <= math.log(2)
        <= score.high
        for _ in range(1000)
    )
    # Exact coverage at N = 25 is 95.7 %; the standard error of 1000 trials is 0.7 %.
    assert hits / 1000 == pytest.approx(0.957, abs=0.025)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
def test_median_value_is_numpys_and_lies_inside(values: list[float]) -> None:
    score = metrics.median(values, "higher")
    assert score.value == pytest.approx(np.median(values))
    assert score.low <= score.value <= score.high


def test_few_values_give_the_range_of_the_quantity() -> None:
    assert metrics.median([1.0, 2.0, 4.0], "higher", low=0.0) == Score(2.0, 0.0, math.inf, "higher")
    assert metrics.median([1.0, math.inf, math.inf], "higher", low=0.0).value == math.inf


def test_pooled_is_students_interval_when_each_seed_is_exact() -> None:
    values = [0.91, 0.93, 0.90, 0.94, 0.92]
    pooled = metrics.pooled([Score(v, v, v, "higher") for v in values])
    low, high = stats.t(4, np.mean(values), stats.sem(values)).interval(0.95)
    assert (pooled.value, pooled.low, pooled.high) == pytest.approx((np.mean(values), low, high))


def test_pooled_covers_with_a_shared_test_set() -> None:
    """Simulated: seed effects and one test-set error common to all seeds, both Normal."""
    generator, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        shared = generator.normal(0, 0.01)
        values = 0.5 + shared + generator.normal(0, 0.02, size=5)
        scores = [Score(v, v - 0.0196, v + 0.0196, "higher") for v in values]
        pooled = metrics.pooled(scores)
        hits += pooled.low <= 0.5 <= pooled.high
    assert hits >= 940  # 95 % less 1.5 standard errors; it is a little conservative


def test_pooled_never_narrows_below_one_seed_and_keeps_the_range() -> None:
    one = metrics.proportion(99, 100)
    assert metrics.pooled([one]) == one
    same = metrics.pooled([one, one, one], low=0.0, high=1.0)
    assert (same.value, same.low, same.high) == pytest.approx((one.value, one.low, one.high))
    spread = metrics.pooled([metrics.proportion(n, 100) for n in (80, 99)], low=0.0, high=1.0)
    assert (spread.low, spread.high) == (0.0, 1.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.proportion(0, 0),
        lambda: metrics.proportion(3, 2),
        lambda: metrics.median([], "higher"),
        lambda: metrics.median([math.nan], "higher"),
        lambda: metrics.pooled([]),
        lambda: metrics.pooled([Score(0, 0, 0, "higher"), Score(0, 0, 0, "lower")]),
        lambda: metrics.pooled([Score(math.inf, 0, math.inf, "higher")] * 2),
        lambda: metrics.accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)),
        lambda: metrics.accuracy(torch.zeros(2, 3), torch.tensor([0, 3])),
        lambda: metrics.accuracy(torch.zeros(2, 3), torch.tensor([0, -1])),
        lambda: metrics.accuracy(torch.zeros(2, 3), torch.tensor([[0], [1]])),
        lambda: metrics.accuracy(torch.full((2, 3), math.nan), torch.tensor([0, 1])),
    ],
)
def test_bad_input_is_one_line(call) -> None:
    with pytest.raises(BadInput) as error:
        call()
    assert "\n" not in str(error.value)
