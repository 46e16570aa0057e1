"""Mean-field mixture of Gaussians with everything unknown, fitted by coordinate ascent.

Model: weights ~ Dirichlet(concentration), Λ ~ Wishart(W₀, ν₀), μ | Λ ~ N(m₀, (β₀Λ)⁻¹), component
z ~ weights, x ~ N(μ_z, Λ_z⁻¹). Belief: q(z) q(weights) q(μ, Λ). Source: Bishop 2006, section 10.2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bayes.checks import check_finite, check_finite_entries, check_positive
from trustml.bayes.coordinate_ascent import Ascent, Climb, ascend, check_points, climb_from
from trustml.errors import BadInput, BadOption


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed before; None takes it from the data, as scikit-learn does.

    Args:
        concentration: of the Dirichlet, per component; small ones empty what is not needed.
            None: 1/K.
        mean_strength: β₀, how many points the prior mean is worth.
        freedom: ν₀, above D - 1. None: D.
        mean: m₀ in every axis. None: the mean of the data.
        spread: W₀⁻¹ is spread²·I. None: the covariance of the data.

    Raises:
        BadOption: a number out of range.
    """

    concentration: float | None = None
    mean_strength: float = 1.0
    freedom: float | None = None
    mean: float | None = None
    spread: float | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("concentration", "freedom", "spread")}
        check_finite(mean=0.0 if self.mean is None else self.mean)
        check_positive(
            mean_strength=self.mean_strength, **{k: v for k, v in given.items() if v is not None}
        )


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """The belief: q(weights) = Dirichlet(concentration (K,)), q(μ, Λ) Normal-Wishart for each of K.

    `root` (K, D, D) is lower triangular with root·rootᵀ = W⁻¹.
    """

    concentration: Tensor
    mean: Tensor
    mean_strength: Tensor
    freedom: Tensor
    root: Tensor

    @property
    def weights(self) -> Tensor:
        """The expected weight (K,) of each component."""
        return self.concentration / self.concentration.sum()

    @property
    def covariance(self) -> Tensor:
        """The covariance (K, D, D) at the expected precision: W⁻¹/ν."""
        return self.root @ self.root.mT / self.freedom[:, None, None]


def fit(
    x: Tensor,
    *,
    components: int,
    prior: Prior | None = None,
    climb: Climb | None = None,
    seed: int = 0,
    start: Tensor | None = None,
) -> Ascent[Gaussians]:
    """Return the belief about K Gaussians that the points (N, D) came from.

    Args:
        start: responsibilities (N, K) to climb from, instead of restarts from guesses.

    Raises:
        BadInput: no points, values not finite, more components than points, points of which the
            prior's covariance cannot be taken (they lie in a subspace), or a start that does not
            fit.
        BadOption: a number of components, or an option of the prior or the climb, out of range.
    """
    x = check_points(x, components)
    step = _Step(x, _settle(prior or Prior(), x, components))
    if start is None:
        return ascend(step, x, components, climb or Climb(), seed)
    check_finite_entries(start=start)
    if start.shape != (len(x), components) or not bool((start >= 0).all()):
        raise BadInput(f"start {tuple(start.shape)}: give ({len(x)}, {components}), 0 or more")
    return climb_from(step, start.double() / start.double().sum(1, keepdim=True), climb or Climb())


def log_density(gaussians: Gaussians, x: Tensor) -> Tensor:
    """Return the log predictive density (B,) of new points, a mixture of Student's t: low is odd.

    Raises:
        BadInput: points of the wrong shape, or values that are not finite.
    """
    x = check_points(x, 1)
    size = gaussians.mean.shape[1]
    if x.shape[1] != size:
        raise BadInput(f"points of {x.shape[1]} axes: the Gaussians have {size}")
    freedom = gaussians.freedom + 1 - size
    # Scale matrix of each t: W⁻¹ (1 + β) / (β ν').
    spread = (1 + gaussians.mean_strength) / (gaussians.mean_strength * freedom)
    volume = _log_determinant(gaussians.root) + size * spread.log()
    top = torch.lgamma(0.5 * (freedom + size)) - torch.lgamma(0.5 * freedom)
    scale = top - 0.5 * (volume + size * (math.pi * freedom).log()) + gaussians.weights.log()
    apart = _distances(gaussians, x.T.contiguous()) / (spread * freedom)[:, None]
    return (scale[:, None] - 0.5 * (freedom + size)[:, None] * torch.log1p(apart)).logsumexp(0)


def _settle(prior: Prior, x: Tensor, components: int) -> Gaussians:
    """Return the prior as a belief of one component."""
    size = x.shape[1]
    if prior.freedom is not None and prior.freedom <= size - 1:
        raise BadOption(f"freedom={prior.freedom} is not allowed: above {size - 1} for {size} axes")
    mean = x.mean(0) if prior.mean is None else torch.full_like(x[0], prior.mean)
    if prior.spread is None:
        centred = x - x.mean(0)
        root, failed = torch.linalg.cholesky_ex(centred.T @ centred / max(len(x) - 1, 1))
        pivots = root.diagonal().square()
        if int(failed) or float(pivots.min()) <= 1e-12 * float(x.var(0).max()):
            raise BadInput(
                f"{len(x)} points lie in a subspace of their {size} axes, so their covariance is "
                "no prior: drop constant or repeated axes, or give the prior a spread"
            )
    else:
        root = prior.spread * torch.eye(size).to(x)
    one = x.new_ones(1)
    return Gaussians(
        one * (1 / components if prior.concentration is None else prior.concentration),
        mean[None],
        one * prior.mean_strength,
        one * (size if prior.freedom is None else prior.freedom),
        root[None],
    )


class _Step:
    """One sweep: responsibilities → Gaussians → responsibilities and the ELBO there."""

    def __init__(self, x: Tensor, prior: Gaussians) -> None:
        # A column a point: then every operation below runs along memory.
        self.x, self.prior = x.T.contiguous(), prior
        self.scatter = prior.root[0] @ prior.root[0].T

    def __call__(self, responsibilities: Tensor) -> tuple[Gaussians, Tensor, float]:
        q, size = self._gaussians(responsibilities.T.contiguous()), len(self.x)
        log_weight = torch.digamma(q.concentration) - torch.digamma(q.concentration.sum())
        volume = _expected_log_determinant(q)
        offset = log_weight + 0.5 * (volume - size * (math.log(2 * math.pi) + 1 / q.mean_strength))
        scores = offset[:, None] - 0.5 * q.freedom[:, None] * _distances(q, self.x)
        total = scores.logsumexp(0)
        elbo = float(total.sum()) - self._kl(q, log_weight, volume)
        return q, scores.sub_(total).exp_().T, elbo

    def _gaussians(self, r: Tensor) -> Gaussians:
        """Return the best q(weights) q(μ, Λ) given the responsibilities (K, N)."""
        prior, count = self.prior, r.sum(1)
        strength = prior.mean_strength + count
        centres = (r @ self.x.T) / count.clamp_min(torch.finfo(r.dtype).tiny)[:, None]
        shift = centres - prior.mean
        pull = (prior.mean_strength * count / strength)[:, None, None]
        scatter = self.scatter + pull * shift[:, :, None] * shift[:, None]
        for k, centre in enumerate(centres):
            apart = self.x - centre[:, None]
            scatter[k] += (apart * r[k]) @ apart.T
        mean = prior.mean + (count / strength)[:, None] * shift
        return Gaussians(
            prior.concentration + count,
            mean,
            strength,
            prior.freedom + count,
            torch.linalg.cholesky(scatter),
        )

    def _kl(self, q: Gaussians, log_weight: Tensor, volume: Tensor) -> float:
        """Return KL of q(weights) q(μ, Λ) from the prior."""
        prior, size = self.prior, len(self.x)
        alpha = prior.concentration.expand_as(q.concentration)
        weights = _log_dirichlet(q.concentration) - _log_dirichlet(alpha)
        weights = weights + ((q.concentration - alpha) * log_weight).sum()
        inverse = torch.linalg.inv(q.root)
        apart = (inverse @ (q.mean - prior.mean)[:, :, None]).square().sum((1, 2))
        ratio = prior.mean_strength / q.mean_strength
        means = 0.5 * (size * (ratio - 1 - ratio.log()) + prior.mean_strength * q.freedom * apart)
        trace = (inverse @ prior.root).square().sum((1, 2))
        wisharts = _log_wishart(q) - _log_wishart(prior) + 0.5 * (
            (q.freedom - prior.freedom) * volume + q.freedom * (trace - size)
        )  # fmt: skip
        return float(weights + (means + wisharts).sum())


def _distances(q: Gaussians, x: Tensor) -> Tensor:
    """Return (x - m)ᵀ W (x - m) (K, N) for every component and point, the points (D, N)."""
    inverse = torch.linalg.inv(q.root)
    rows = [
        (root @ x - (root @ mean)[:, None]).square_().sum(0)
        for mean, root in zip(q.mean, inverse, strict=True)
    ]
    return torch.stack(rows)


def _log_determinant(root: Tensor) -> Tensor:
    """Return log |root·rootᵀ| (K,)."""
    return 2 * root.diagonal(dim1=1, dim2=2).log().sum(1)


def _expected_log_determinant(q: Gaussians) -> Tensor:
    """Return E[log |Λ|] (K,)."""
    size = q.mean.shape[1]
    halves = 0.5 * (q.freedom[:, None] - torch.arange(size).to(q.mean))
    return torch.digamma(halves).sum(1) + size * math.log(2) - _log_determinant(q.root)


def _log_wishart(q: Gaussians) -> Tensor:
    """Return the log normaliser (K,) of each Wishart density, up to a constant of the size."""
    size = q.mean.shape[1]
    halves = 0.5 * (q.freedom[:, None] - torch.arange(size).to(q.mean))
    spread = 0.5 * q.freedom * (_log_determinant(q.root) - size * math.log(2))
    return spread - torch.lgamma(halves).sum(1)


def _log_dirichlet(alpha: Tensor) -> Tensor:
    """Return the log normaliser of the Dirichlet density."""
    return torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum()
