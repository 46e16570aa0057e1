"""Mean-field mixture of Poisson strengths and Normal positions, fitted by coordinate ascent.

Model: component z uniform over K; strength ~ Poisson(λ_z), position ~ N(μ_z, spread²·I);
λ ~ Gamma(shape, rate), μ ~ N(centre, centre_spread²·I). Belief: q(z) q(λ) q(μ), every factor exact
given the others. Source: Blei, Kucukelbir and McAuliffe 2017, arXiv:1601.00670.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bayes.checks import check_finite, check_positive, check_real
from trustml.bayes.coordinate_ascent import Ascent, Climb, ascend, check_points
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before: λ ~ Gamma(shape, rate) and μ ~ N(centre, centre_spread²) per axis.

    Raises:
        BadOption: shape, rate or centre_spread is not above 0, or the centre not finite.
    """

    shape: float = 1.0
    rate: float = 0.1
    centre: float = 0.0
    centre_spread: float = 10.0

    def __post_init__(self) -> None:
        check_positive(shape=self.shape, rate=self.rate, centre_spread=self.centre_spread)
        check_finite(centre=self.centre)


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """q(λ) = Gamma(shape, rate) (K,), q(μ) = N(mean (K, D), variance (K,)), the known spread."""

    shape: Tensor
    rate: Tensor
    mean: Tensor
    variance: Tensor
    spread: float

    @property
    def strength(self) -> Tensor:
        """The expected strength (K,) of each component."""
        return self.shape / self.rate


def fit(
    positions: Tensor,
    strengths: Tensor,
    *,
    components: int,
    spread: float,
    prior: Prior | None = None,
    climb: Climb | None = None,
    seed: int = 0,
) -> Ascent[Sources]:
    """Return the belief about K sources of events at positions (N, D) with strengths (N,).

    Args:
        spread: standard deviation of positions about their source, which is known.

    Raises:
        BadInput: no events, values not finite, strengths that are not counts, more components
            than events, or shapes that do not fit.
        BadOption: a spread, a number of components or an option of the climb out of range.
    """
    x = check_points(positions, components)
    check_positive(spread=spread)
    s = _counts(strengths, len(x))
    step = _Step(x, s, components, spread, prior or Prior())
    return ascend(step, x, components, climb or Climb(), seed)


def log_density(sources: Sources, positions: Tensor, strengths: Tensor) -> Tensor:
    """Return the log predictive density (B,) of new events: low is odd.

    Each source's strength is negative binomial and its position Normal, with what is not known of
    the source counted in both.

    Raises:
        BadInput: positions or strengths of the wrong shape, or values that are no event's.
    """
    x = check_points(positions, 1)
    s = _counts(strengths, len(x))
    if x.shape[1] != sources.mean.shape[1]:
        raise BadInput(f"positions of {x.shape[1]} axes: the sources have {sources.mean.shape[1]}")
    a, b, size = sources.shape, sources.rate, x.shape[1]
    variance = sources.spread**2 + sources.variance
    square = torch.cdist(x, sources.mean).square()
    place = -0.5 * (square / variance + size * (2 * math.pi * variance).log())
    count = s[:, None]
    ways = torch.lgamma(count + a) - torch.lgamma(a) - torch.lgamma(count + 1)
    strength = ways + a * (b / (b + 1)).log() - count * (b + 1).log()
    return (place + strength).logsumexp(1) - math.log(len(a))


class _Step:
    """One sweep: responsibilities → sources → responsibilities and the ELBO there."""

    def __init__(self, x: Tensor, s: Tensor, components: int, spread: float, prior: Prior) -> None:
        self.x, self.s, self.spread, self.prior = x, s, spread, prior
        self.columns = torch.cat([x, s[:, None], x.new_ones(len(x), 1)], dim=1)
        scale = 0.5 * x.shape[1] * math.log(2 * math.pi * spread**2) + math.log(components)
        self.constant = float(torch.lgamma(s + 1).sum()) + len(x) * scale

    def __call__(self, responsibilities: Tensor) -> tuple[Sources, Tensor, float]:
        sources = self._sources(responsibilities.T.contiguous() @ self.columns)
        log_rate = torch.digamma(sources.shape) - sources.rate.log()
        blur = 0.5 * self.x.shape[1] * sources.variance / self.spread**2
        # Differences first, then squares: |x|² - 2xm + |m|² would cancel far from the origin.
        # A row a component: the sums over components then run along memory.
        apart = torch.cdist(
            sources.mean, self.x, compute_mode="donot_use_mm_for_euclid_dist"
        ).square_()
        scores = torch.addcmul((-sources.strength - blur)[:, None], log_rate[:, None], self.s).sub_(
            apart, alpha=0.5 / self.spread**2
        )
        total = scores.logsumexp(0)
        elbo = float(total.sum()) - self.constant - self._kl(sources)
        return sources, scores.sub_(total).exp_().T, elbo

    def _sources(self, sums: Tensor) -> Sources:
        """Return the best q(λ) q(μ) from Σ r·[x, s, 1] (K, D + 2)."""
        prior, precision = self.prior, 1 / self.spread**2
        variance = 1 / (prior.centre_spread**-2 + precision * sums[:, -1])
        mean = prior.centre * prior.centre_spread**-2 + precision * sums[:, :-2]
        shape, rate = prior.shape + sums[:, -2], prior.rate + sums[:, -1]
        return Sources(shape, rate, variance[:, None] * mean, variance, self.spread)

    def _kl(self, sources: Sources) -> float:
        """Return KL of q(λ) q(μ) from the prior."""
        prior, a, b = self.prior, sources.shape, sources.rate
        gamma = (
            (a - prior.shape) * torch.digamma(a) - torch.lgamma(a) + math.lgamma(prior.shape)
            + prior.shape * (b.log() - math.log(prior.rate)) + a * (prior.rate / b - 1)
        )  # fmt: skip
        ratio = sources.variance / prior.centre_spread**2
        far = (sources.mean - prior.centre).square().sum(1) / prior.centre_spread**2
        normal = 0.5 * (self.x.shape[1] * (ratio - 1 - ratio.log()) + far)
        return float((gamma + normal).sum())


def _counts(strengths: Tensor, events: int) -> Tensor:
    check_real(strengths=strengths)
    if strengths.shape != (events,):
        raise BadInput(f"strengths {tuple(strengths.shape)}: give one for each of {events} events")
    s = strengths.double()
    if not bool((s >= 0).all()) or not bool((s == s.floor()).all()) or not bool(s.isfinite().all()):
        raise BadInput("strengths must be counts: whole numbers, 0 or more")
    return s
