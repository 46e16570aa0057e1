"""Monte Carlo gradients of an expectation: the score function and the reparameterised ones.

Sources: Williams 1992 (score function, baseline); Kingma and Welling 2014, arXiv:1312.6114;
Roeder, Wu and Duvenaud 2017, "Sticking the landing", arXiv:1703.09194.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from trustml.bayes.checks import check_finite_entries, check_positive, check_real
from trustml.errors import BadInput, BadOption

Estimator = Literal["score", "score_baseline", "reparameterised", "sticking_the_landing"]


@dataclass(frozen=True, slots=True, eq=False)
class DiagonalGaussian:
    """The belief q: independent Gaussians of the given mean (D,) and log_scale (D,)."""

    mean: Tensor
    log_scale: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Return mean + scale·noise (S, D)."""
        return self.mean + self.log_scale.exp() * noise

    def log_density(self, z: Tensor) -> Tensor:
        """Return log q(z) (S,) of points (S, D)."""
        standard = (z - self.mean) * (-self.log_scale).exp()
        each = -0.5 * standard**2 - self.log_scale - 0.5 * math.log(2 * math.pi)
        return each.sum(-1)


def elbo_gradients(
    log_joint: Callable[[Tensor], Tensor],
    belief: DiagonalGaussian,
    noise: Tensor,
    *,
    estimator: Estimator = "sticking_the_landing",
) -> Tensor:
    """Return the ELBO's gradient as seen by each draw: (S, 2, D), for the mean and the log_scale.

    Their mean over draws is the estimate, their variance its quality; all four are unbiased.

    Args:
        log_joint: points (S, D) → log p(data, point) (S,), up to a constant. The two score
            estimators need its values only, the others its gradient.
        noise: standard normal (S, D), one row a draw.
        estimator: "score" weighs ∇log q by log p - log q. "score_baseline" first subtracts the
            mean of the other draws: no bias, less variance. "reparameterised" differentiates
            through z = mean + scale·noise. "sticking_the_landing" does so with q's parameters
            held fixed inside log q: where q is the posterior, every draw's gradient is exactly 0.
            Elsewhere it may have more variance than "reparameterised".

    Raises:
        BadInput: shapes that do not fit, one draw with a baseline, or values that are not finite.
        BadOption: an unknown estimator.
    """
    if estimator not in get_args(Estimator):
        raise BadOption(f"estimator={estimator!r}: {', '.join(get_args(Estimator))} are allowed")
    check_finite_entries(mean=belief.mean, log_scale=belief.log_scale, noise=noise)
    size = belief.mean.shape
    fits = noise.ndim == 2 and noise.shape[1:] == size == belief.log_scale.shape
    if not fits or not len(noise):
        raise BadInput(
            f"noise {tuple(noise.shape)}, mean {tuple(size)}, log_scale "
            f"{tuple(belief.log_scale.shape)}: give (S, D), (D,) and (D,)"
        )
    scale = belief.log_scale.exp()
    if estimator in ("score", "score_baseline"):
        with torch.no_grad():
            z = belief.at(noise)
            values = _finite(log_joint(z), noise) - belief.log_density(z)
        if estimator == "score_baseline":
            values = values - others_mean(values)
        return values[:, None, None] * torch.stack([noise / scale, noise**2 - 1], dim=1)
    slope = _slope(log_joint, belief.at(noise).detach())
    if estimator == "reparameterised":
        # Along z = mean + scale·noise, -log q is log_scale + a constant: its gradient is (0, 1).
        return torch.stack([slope, slope * scale * noise + 1], dim=1).detach()
    # With q's parameters fixed, -log q changes through z alone: by noise / scale.
    slope = slope + noise / scale
    return torch.stack([slope, slope * scale * noise], dim=1).detach()


def smoothed_gradient(
    values: Tensor, noise: Tensor, scale: float, *, baseline: bool = True
) -> Tensor:
    """Return the gradient (B, *S) of x ↦ E[f(x + scale·noise)] from values alone (NES).

    The score-function estimator for the mean of a Gaussian: mean over draws of value·noise / scale.

    Args:
        values: f at each draw (S, B).
        noise: standard normal (S, B, *S). With antithetic pairs (noise, -noise) the pairs cancel
            constants by themselves: take baseline=False, which a mirrored draw would bias.
        baseline: subtract from each value the mean of the other draws.

    Raises:
        BadInput: shapes that do not fit, values not finite, or one draw with a baseline.
        BadOption: the scale is not above 0.
    """
    check_positive(scale=scale)
    check_finite_entries(values=values)
    check_real(noise=noise)
    if values.ndim != 2 or noise.shape[:2] != values.shape or not len(values):
        raise BadInput(
            f"values {tuple(values.shape)}, noise {tuple(noise.shape)}: give (S, B) and (S, B, …)"
        )
    if baseline:
        values = values - others_mean(values)
    weights = values.view(*values.shape, *[1] * (noise.ndim - 2))
    return (weights * noise).mean(0) / scale


def others_mean(values: Tensor) -> Tensor:
    """Return for each draw (S, …) the mean of the other draws: a baseline independent of it.

    Raises:
        BadInput: fewer than 2 draws.
    """
    if len(values) < 2:
        raise BadInput("a baseline needs 2 draws or more: it is the mean of the others")
    return (values.sum(0) - values) / (len(values) - 1)


def _slope(log_joint: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return the gradient of log_joint at each point (S, D)."""
    z = z.requires_grad_()
    with torch.enable_grad():
        values = _finite(log_joint(z), z)
        if not values.requires_grad:
            raise BadInput("log_joint does not depend on its argument differentiably: use score")
        (slope,) = torch.autograd.grad(values.sum(), z)
    return slope


def _finite(values: Tensor, noise: Tensor) -> Tensor:
    if values.shape != noise.shape[:1]:
        raise BadInput(f"log_joint gave {tuple(values.shape)} for {len(noise)} points: give (S,)")
    if not bool(values.isfinite().all()):
        raise BadInput("log_joint is NaN or infinite at a draw")
    return values
