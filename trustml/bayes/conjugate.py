"""Conjugate pairs in closed form: Beta-Binomial for proportions, Normal-Normal for means."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from trustml.bayes.checks import check_finite, check_positive, finite_number
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True)
class Beta:
    """Beta(alpha, beta): what is believed of a proportion. Beta(1, 1) knows nothing.

    Raises:
        BadInput: alpha or beta is not a positive finite number.
    """

    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_positive(BadInput, alpha=self.alpha, beta=self.beta)

    @property
    def mean(self) -> float:
        """The expected proportion."""
        return 1 / (1 + self.beta / self.alpha)

    @property
    def variance(self) -> float:
        """The variance of the proportion."""
        return self.mean * (1 - self.mean) / (self.alpha + self.beta + 1)

    @property
    def mode(self) -> float:
        """The most probable proportion; of a posterior, the MAP estimate.

        Raises:
            BadInput: the density has no single highest point (alpha and beta both at most 1).
        """
        if self.alpha <= 1 and self.beta <= 1:
            raise BadInput(
                f"Beta({self.alpha:g}, {self.beta:g}) has no single mode: "
                "alpha or beta must be above 1; use the mean"
            )
        if self.alpha <= 1:
            return 0.0
        if self.beta <= 1:
            return 1.0
        return (self.alpha - 1) / (self.alpha + self.beta - 2)

    def quantile(self, probability: float) -> float:
        """Return the proportion below which `probability` of the belief lies.

        Raises:
            BadInput: the probability is outside [0, 1].
        """
        from scipy.special import betaincinv  # scipy.stats would cost a second of start-up

        if not (finite_number(probability) and 0 <= probability <= 1):
            raise BadInput(f"probability {probability}: it must lie in [0, 1]")
        return float(betaincinv(self.alpha, self.beta, probability))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the credible interval with equal tails.

        Raises:
            BadInput: the level is outside (0, 1).
        """
        tail = _tail(level)
        return self.quantile(tail), self.quantile(1 - tail)


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal(mean, variance): what is believed of a number. An infinite variance is a flat prior.

    Raises:
        BadInput: the mean is not finite, or the variance is not above 0.
    """

    mean: float = 0.0
    variance: float = 1.0

    def __post_init__(self) -> None:
        check_finite(BadInput, mean=self.mean)
        if self.variance != math.inf:
            check_positive(BadInput, variance=self.variance)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the credible interval, symmetric about the mean.

        Raises:
            BadInput: the level is outside (0, 1).
        """
        reach = NormalDist().inv_cdf(1 - _tail(level)) * math.sqrt(self.variance)
        return self.mean - reach, self.mean + reach

    def log_density(self, x: float) -> float:
        """Return log N(x; mean, variance).

        Raises:
            BadInput: x is not a finite number.
        """
        check_finite(BadInput, x=x)
        return -0.5 * (math.log(2 * math.pi * self.variance) + (x - self.mean) ** 2 / self.variance)


def beta_binomial(prior: Beta, successes: int, trials: int) -> Beta:
    """Return the posterior of the proportion: Beta(alpha + y, beta + N - y).

    Raises:
        BadInput: the counts are negative, not whole, or more successes than trials.
    """
    _counts(successes, trials)
    return Beta(prior.alpha + successes, prior.beta + trials - successes)


def beta_binomial_log_evidence(prior: Beta, successes: int, trials: int) -> float:
    """Return log p(y | N, prior): the evidence, and also the predictive of N trials to come.

    Raises:
        BadInput: the counts are negative, not whole, or more successes than trials.
    """
    posterior = beta_binomial(prior, successes, trials)
    ways = -math.log(trials + 1) - _log_beta(successes + 1, trials - successes + 1)
    return ways + _log_beta(posterior.alpha, posterior.beta) - _log_beta(prior.alpha, prior.beta)


def proportion_mle(successes: int, trials: int) -> float:
    """Return the maximum-likelihood proportion y/N.

    Raises:
        BadInput: there is no trial, or the counts are not possible.
    """
    _counts(successes, trials)
    if trials == 0:
        raise BadInput("no trials: the maximum-likelihood proportion 0/0 does not exist")
    return successes / trials


def map_regulariser(prior: Beta) -> tuple[float, float]:
    """Return (a, b) such that the MAP minimises Σᵢ (xᵢ - θ)² - aθ + bθ² over outcomes xᵢ in {0, 1}.

    The sum is Nθ² - 2yθ + y, so the minimiser is (2y + a) / (2N + 2b). It is the posterior mode
    (y + alpha - 1) / (N + alpha + beta - 2) for every y and N just when a = 2(alpha - 1) and
    b = alpha + beta - 2. The uniform prior gives a = b = 0: no regulariser, and MAP = MLE.
    """
    return 2 * (prior.alpha - 1), prior.alpha + prior.beta - 2


def normal_normal(prior: Normal, x: Sequence[float], noise_variance: float) -> Normal:
    """Return the posterior of the mean of x ~ N(μ, σ²) where μ ~ prior. No data: the prior.

    Raises:
        BadInput: the noise variance is not positive, or x holds NaN or an infinity.
    """
    check_positive(BadInput, noise_variance=noise_variance)
    x = _finite(x)
    if not x:
        return prior
    precision = len(x) / noise_variance + 1 / prior.variance
    mean = (_sum(x) / noise_variance + prior.mean / prior.variance) / precision
    return Normal(mean, 1 / precision)


def normal_predictive(posterior: Normal, noise_variance: float) -> Normal:
    """Return the predictive of the next x: it counts both the noise and what is not known of μ.

    Raises:
        BadInput: the noise variance is not positive.
    """
    check_positive(BadInput, noise_variance=noise_variance)
    return Normal(posterior.mean, posterior.variance + noise_variance)


def normal_mle_predictive(x: Sequence[float], noise_variance: float) -> Normal:
    """Return the plug-in predictive N(x̄, σ²): the best μ taken for the truth.

    Raises:
        BadInput: there is no data, x is not finite, or the noise variance is not positive.
    """
    check_positive(BadInput, noise_variance=noise_variance)
    x = _finite(x)
    if not x:
        raise BadInput("no data: the maximum-likelihood mean does not exist")
    return Normal(_sum(x) / len(x), noise_variance)


def normal_map_predictive(prior: Normal, x: Sequence[float], noise_variance: float) -> Normal:
    """Return the plug-in predictive N(μₙ, σ²): the posterior's mode taken for the truth.

    Raises:
        BadInput: x is not finite, or the noise variance is not positive.
    """
    return Normal(normal_normal(prior, x, noise_variance).mean, noise_variance)


def normal_log_evidence(prior: Normal, x: Sequence[float], noise_variance: float) -> float:
    """Return log p(x) with μ integrated out.

    Raises:
        BadInput: there is no data, x is not finite, a variance is not positive, or the prior is
            flat (then no evidence exists).
    """
    best = normal_mle_predictive(x, noise_variance)
    if math.isinf(prior.variance):
        raise BadInput("a flat prior (infinite variance) has no evidence: give it a finite one")
    x = _finite(x)
    count = len(x)
    # Split at x̄, so that no large sums are subtracted: p(x) = p(x | x̄) p(x̄ | prior).
    spread = math.fsum((value - best.mean) ** 2 for value in x)
    within = -0.5 * ((count - 1) * math.log(2 * math.pi * noise_variance) + math.log(count))
    centre = Normal(prior.mean, prior.variance + noise_variance / count)
    return within - 0.5 * spread / noise_variance + centre.log_density(best.mean)


def _finite(x: Sequence[float]) -> list[float]:
    """Return the values, also of an array or tensor, as a list."""
    listed = x.tolist() if hasattr(x, "tolist") else x
    if isinstance(listed, str) or not hasattr(listed, "__len__"):
        raise BadInput(f"x={x!r}: give a sequence of numbers")
    values = list(listed)
    wrong = [value for value in values if not finite_number(value)]
    if wrong:
        raise BadInput(
            f"{len(wrong)} of {len(values)} values are not finite numbers ({wrong[0]!r}): "
            "remove them"
        )
    return values


def _sum(x: Sequence[float]) -> float:
    try:
        return math.fsum(x)
    except OverflowError:
        raise BadInput("the values are too large to be added: divide them by a scale") from None


def _counts(successes: int, trials: int) -> None:
    if not all(finite_number(count) and count == int(count) for count in (successes, trials)):
        raise BadInput(f"{successes} of {trials}: counts must be whole numbers")
    if not 0 <= successes <= trials:
        raise BadInput(f"{successes} of {trials}: successes must lie between 0 and the trials")


def _tail(level: float) -> float:
    if not (finite_number(level) and 0 < level < 1):
        raise BadInput(f"level {level}: it must lie strictly between 0 and 1")
    return (1 - level) / 2


def _log_beta(alpha: float, beta: float) -> float:
    return math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
