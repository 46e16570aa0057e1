"""Conjugate pairs against scipy.stats, published figures and their own definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from trustml.bayes import conjugate
from trustml.bayes.conjugate import Beta, Normal
from trustml.errors import BadInput

DATA = [3.3, 3.5, 3.1, 1.8, 3.0, 0.74, 2.5, 2.4, 1.6, 2.1, 2.4, 1.3, 1.7, 0.19]
shape = st.floats(0.2, 50)
counts = st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(shape, shape)
def test_beta_moments_and_quantiles_are_those_of_scipy(alpha: float, beta: float) -> None:
    ours, theirs = Beta(alpha, beta), stats.beta(alpha, beta)
    assert ours.mean == pytest.approx(theirs.mean(), rel=1e-12)
    assert ours.variance == pytest.approx(theirs.var(), rel=1e-10)
    assert ours.interval(0.9) == pytest.approx(theirs.interval(0.9), rel=1e-8, abs=1e-12)


@given(shape, shape, counts)
def test_evidence_is_the_beta_binomial_of_scipy(alpha: float, beta: float, yn: tuple) -> None:
    y, n = yn
    expected = stats.betabinom(n, alpha, beta).logpmf(y)
    assert conjugate.beta_binomial_log_evidence(Beta(alpha, beta), y, n) == pytest.approx(
        expected, rel=1e-9, abs=1e-9
    )


def test_posterior_is_bayes_rule_on_a_grid() -> None:
    """Prior times likelihood, normalised numerically, needs no knowledge of conjugacy."""
    theta = (np.arange(200_000) + 0.5) / 200_000
    weight = stats.beta(2, 5).pdf(theta) * theta**7 * (1 - theta) ** 4
    weight /= weight.sum()
    posterior = conjugate.beta_binomial(Beta(2, 5), 7, 11)
    assert posterior == Beta(9, 9)
    assert posterior.mean == pytest.approx((weight * theta).sum(), abs=1e-9)
    assert posterior.mode == pytest.approx(theta[weight.argmax()], abs=1e-5)
    assert posterior.quantile(0.3) == pytest.approx(
        theta[np.searchsorted(weight.cumsum(), 0.3)], abs=1e-4
    )


@pytest.mark.parametrize(
    ("alpha", "beta", "y", "n"), [(2, 3, 4, 10), (1, 1, 3, 7), (5.5, 1.5, 0, 3)]
)
def test_map_minimises_the_regularised_squared_error(
    alpha: float, beta: float, y: int, n: int
) -> None:
    """A numerical minimiser of the stated objective must land on the posterior mode."""
    a, b = conjugate.map_regulariser(Beta(alpha, beta))
    objective = lambda t: y * (1 - t) ** 2 + (n - y) * t**2 - a * t + b * t**2  # noqa: E731
    best = minimize_scalar(objective, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).x
    mode = conjugate.beta_binomial(Beta(alpha, beta), y, n).mode
    assert mode == pytest.approx(best, abs=1e-7)


def test_uniform_prior_has_no_regulariser_and_map_is_mle() -> None:
    assert conjugate.map_regulariser(Beta(1, 1)) == (0, 0)
    for y in range(8):
        assert conjugate.beta_binomial(Beta(), y, 7).mode == conjugate.proportion_mle(y, 7)


def test_the_prior_is_forgotten_as_data_arrive() -> None:
    posterior = conjugate.beta_binomial(Beta(20, 3), 300_000, 1_000_000)
    assert posterior.mean == pytest.approx(0.3, abs=2e-5)


@pytest.mark.parametrize(("tau2", "printed"), [(5.0, "4.4629e-10"), (0.1, "7.9997e-15")])
def test_normal_evidence_to_its_printed_digits(tau2: float, printed: str) -> None:
    """Published for this data with unit noise."""
    evidence = math.exp(conjugate.normal_log_evidence(Normal(0, tau2), DATA, 1.0))
    assert f"{evidence:.4e}" == printed


def test_normal_posterior_to_its_printed_digits() -> None:
    """Published: mean 2.08662, variance 0.0704225. The variance multiplies Σx/σ², not its root."""
    posterior = conjugate.normal_normal(Normal(0, 5), DATA, 1.0)
    assert f"{posterior.mean:.5f}" == "2.08662"
    assert f"{posterior.variance:.7f}" == "0.0704225"


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    st.floats(-3, 3), st.floats(0.05, 20), st.floats(0.05, 20),
)  # fmt: skip
def test_normal_evidence_is_the_joint_normal_of_scipy(
    x: list[float], mean: float, tau2: float, noise: float
) -> None:
    """With μ integrated out, x is jointly Normal with covariance σ²I + τ²11ᵀ."""
    covariance = noise * np.eye(len(x)) + tau2
    expected = stats.multivariate_normal([mean] * len(x), covariance).logpdf(x)
    ours = conjugate.normal_log_evidence(Normal(mean, tau2), x, noise)
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-8)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.floats(0.05, 20))
def test_evidence_is_the_product_of_one_step_predictives(x: list[float], noise: float) -> None:
    """The chain rule: each datum scored by the predictive of those before it."""
    prior = Normal(0.5, 2.0)
    total = sum(
        conjugate.normal_predictive(
            conjugate.normal_normal(prior, x[:i], noise), noise
        ).log_density(value)
        for i, value in enumerate(x)
    )
    assert conjugate.normal_log_evidence(prior, x, noise) == pytest.approx(
        total, rel=1e-9, abs=1e-8
    )


def test_posterior_one_by_one_is_posterior_at_once() -> None:
    posterior = Normal(0, 5)
    for value in DATA:
        posterior = conjugate.normal_normal(posterior, [value], 1.0)
    at_once = conjugate.normal_normal(Normal(0, 5), DATA, 1.0)
    assert posterior.mean == pytest.approx(at_once.mean, rel=1e-13)
    assert posterior.variance == pytest.approx(at_once.variance, rel=1e-13)


def test_three_predictives() -> None:
    """Only the Bayesian one is wider than the noise; the MAP one is shrunk towards the prior."""
    prior = Normal(0, 0.1)
    mle = conjugate.normal_mle_predictive(DATA, 1.0)
    plug_in = conjugate.normal_map_predictive(prior, DATA, 1.0)
    bayes = conjugate.normal_predictive(conjugate.normal_normal(prior, DATA, 1.0), 1.0)
    assert mle.mean == pytest.approx(np.mean(DATA))
    assert 0 < plug_in.mean < mle.mean
    assert plug_in.mean == bayes.mean
    assert mle.variance == plug_in.variance == 1.0 < bayes.variance


def test_flat_prior_gives_the_mean_and_its_standard_error() -> None:
    posterior = conjugate.normal_normal(Normal(0, math.inf), DATA, 2.0)
    assert posterior.mean == pytest.approx(np.mean(DATA))
    assert posterior.variance == pytest.approx(2.0 / len(DATA))
    assert posterior.interval() == pytest.approx(
        stats.norm(np.mean(DATA), math.sqrt(2 / len(DATA))).interval(0.95)
    )


def test_no_data_leave_the_prior() -> None:
    assert conjugate.beta_binomial(Beta(2, 3), 0, 0) == Beta(2, 3)
    assert conjugate.normal_normal(Normal(1, 2), [], 1.0) == Normal(1, 2)


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf])
def test_bad_shapes_are_refused(wrong: float) -> None:
    with pytest.raises(BadInput, match="above 0"):
        Beta(wrong, 1.0)
    with pytest.raises(BadInput, match="above 0"):
        Beta(1.0, wrong)


@pytest.mark.parametrize("variance", [0, -1, math.nan])
def test_bad_variances_are_refused(variance: float) -> None:
    with pytest.raises(BadInput, match="above 0"):
        Normal(0, variance)
    for function in (conjugate.normal_normal, conjugate.normal_log_evidence):
        with pytest.raises(BadInput, match="above 0"):
            function(Normal(), [1.0], variance)


@pytest.mark.parametrize(("y", "n"), [(3, 2), (-1, 2), (1.5, 2)])
def test_impossible_counts_are_refused(y: int, n: int) -> None:
    with pytest.raises(BadInput, match=f"{y} of {n}"):
        conjugate.beta_binomial(Beta(), y, n)


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="0/0"):
        conjugate.proportion_mle(0, 0)
    with pytest.raises(BadInput, match="no data"):
        conjugate.normal_mle_predictive([], 1.0)
    with pytest.raises(BadInput, match="no data"):
        conjugate.normal_log_evidence(Normal(), [], 1.0)
    with pytest.raises(BadInput, match="flat prior"):
        conjugate.normal_log_evidence(Normal(0, math.inf), DATA, 1.0)
    with pytest.raises(BadInput, match="not finite"):
        conjugate.normal_normal(Normal(), [1.0, math.nan], 1.0)
    with pytest.raises(BadInput, match="no single mode"):
        Beta(0.5, 0.5).mode  # noqa: B018  the property itself must raise
    with pytest.raises(BadInput, match="level"):
        Beta(2, 2).interval(95)
