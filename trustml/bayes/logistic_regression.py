"""Bayesian logistic regression: the MAP, Laplace about it, and the best Gaussian (variational).

Model: P(y = 1) = σ(Φ(x)ᵀw), w ~ N(0, I/α). Sources: Bishop 2006, section 4.5; Opper and Archambeau
2009, "The variational Gaussian approximation revisited".
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import softplus

from trustml.bayes.checks import check_finite_entries, check_positive, check_real
from trustml.errors import BadInput, BadOption

Method = Literal["map", "laplace", "variational"]
_STEPS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A Gaussian belief N(mean, covariance) over the weights (M,); the MAP has covariance 0."""

    mean: Tensor
    covariance: Tensor
    alpha: float


def fit(phi: Tensor, y: Tensor, *, method: Method = "laplace", alpha: float = 1.0) -> Weights:
    """Return the belief about the weights after labels y (N,) in {0, 1} at design phi (N, M).

    Args:
        method: "map" is one point; "laplace" the Gaussian of the curvature there; "variational"
            the Gaussian of greatest ELBO.
        alpha: precision of the prior of each weight.

    Raises:
        BadInput: no rows, shapes that do not fit, values not finite, labels other than 0 and 1,
            or a design so near to singular that α does not save it.
        BadOption: α is not above 0, or an unknown method.
    """
    phi, y = _data(phi, y)
    check_positive(alpha=alpha)
    if method not in get_args(Method):
        raise BadOption(f"method={method!r} is not allowed: {', '.join(get_args(Method))}")
    mean = _mode(phi, y, alpha)
    probability = torch.sigmoid(phi @ mean)
    covariance = _inverse(phi, probability * (1 - probability), alpha)
    if method == "map":
        return Weights(mean, torch.zeros_like(covariance), alpha)
    laplace = Weights(mean, covariance, alpha)
    return laplace if method == "laplace" else _climb(laplace, phi, y)


def predict(weights: Weights, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(y = 1) (B,), averaged over the weights, and the variance (B,) of the logit.

    Raises:
        BadInput: the design does not have one column a weight, or is not finite.
    """
    check_finite_entries(design=phi)
    if phi.ndim != 2 or phi.shape[1] != len(weights.mean):
        raise BadInput(f"design {tuple(phi.shape)}: the fit had {len(weights.mean)} columns")
    mean, variance = _logits(weights, phi.double())
    return logistic_normal(mean, variance.sqrt())[1], variance


def elbo(weights: Weights, phi: Tensor, y: Tensor) -> float:
    """Return the evidence lower bound E_q[log p(y | w)] - KL(q ‖ prior), in nats.

    Raises:
        BadInput: the data are not those of a fit, or the belief is a point (its bound is -∞).
    """
    phi, y = _data(phi, y)
    mean, variance = _logits(weights, phi)
    volume = torch.linalg.slogdet(weights.covariance)
    if volume.sign <= 0:
        raise BadInput("a point has no ELBO: fit with method laplace or variational")
    size, alpha = len(weights.mean), weights.alpha
    square = alpha * (weights.mean.square().sum() + weights.covariance.trace())
    kl = 0.5 * (square - size - size * math.log(alpha) - volume.logabsdet)
    return float((y * mean - logistic_normal(mean, variance.sqrt())[0]).sum() - kl)


def laplace_log_evidence(weights: Weights, phi: Tensor, y: Tensor) -> float:
    """Return Laplace's approximation of log p(y) from a "laplace" fit.

    Raises:
        BadInput: the data are not those of a fit, or the belief is a point.
    """
    phi, y = _data(phi, y)
    volume = torch.linalg.slogdet(weights.covariance)
    if volume.sign <= 0:
        raise BadInput("a point has no evidence: fit with method laplace")
    size = len(weights.mean)
    occam = 0.5 * (size * math.log(weights.alpha) + volume.logabsdet)
    return float(occam - _loss(phi, y, weights.mean, weights.alpha))


def logistic_normal(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return E[softplus(a)], E[σ(a)] and E[σ'(a)] for a ~ N(mean, scale²), to 1e-12.

    Trapezoid rules, which converge exponentially here. Narrow Gaussians are summed over the
    Gaussian. Wide ones over the logistic: softplus, σ and σ' are ramp, step and spike smoothed by
    the logistic density, so their means are those of a Gaussian's ramp, step and spike, smoothed.
    """
    mean, scale = mean[..., None], scale[..., None]
    z = torch.linspace(-9, 9, 73).to(mean)
    weight = torch.exp(-0.5 * z**2) * (0.25 / math.sqrt(2 * math.pi))
    a = mean + scale.clamp_max(1) * z
    sigma = torch.sigmoid(a)
    narrow = softplus(a), sigma, sigma * torch.sigmoid(-a)
    u = torch.linspace(-40, 40, 161).to(mean)
    density = 0.5 * torch.sigmoid(u) * torch.sigmoid(-u)
    wide_scale = scale.clamp_min(1)
    t = (mean - u) / wide_scale
    spike = torch.exp(-0.5 * t**2) / (wide_scale * math.sqrt(2 * math.pi))
    step = torch.special.ndtr(t)
    wide = (mean - u) * step + wide_scale**2 * spike, step, spike
    is_narrow = scale[..., 0] <= 1
    first, second, third = (
        torch.where(is_narrow, (n * weight).sum(-1), (w * density).sum(-1))
        for n, w in zip(narrow, wide, strict=True)
    )
    return first, second, third


def _mode(phi: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Return the MAP by Newton's method with halved steps; the loss is strictly convex."""
    w = torch.zeros(phi.shape[1]).to(phi)
    loss = _loss(phi, y, w, alpha)
    for _ in range(_STEPS):
        probability = torch.sigmoid(phi @ w)
        gradient = phi.T @ (probability - y) + alpha * w
        step = _inverse(phi, probability * (1 - probability), alpha) @ gradient
        if float(gradient @ step) < 1e-20 * (1 + float(loss)):  # the Newton decrement
            return w
        length = 1.0
        while length > 1e-10 and _loss(phi, y, w - length * step, alpha) > loss:
            length /= 2
        w = w - length * step
        loss = _loss(phi, y, w, alpha)
    return w


def _climb(start: Weights, phi: Tensor, y: Tensor) -> Weights:
    """Return the Gaussian of greatest ELBO: natural-gradient steps, halved until the ELBO rises."""
    now, height = start, elbo(start, phi, y)
    for _ in range(_STEPS):
        mean, variance = _logits(now, phi)
        _, probability, slope = logistic_normal(mean, variance.sqrt())
        gradient = phi.T @ (y - probability) - now.alpha * now.mean
        target = phi.T @ (phi * slope[:, None]) + now.alpha * torch.eye(phi.shape[1]).to(phi)
        precision = torch.linalg.inv(now.covariance)
        length, better = 1.0, None
        while length > 1e-6 and better is None:
            covariance = torch.linalg.inv((1 - length) * precision + length * target)
            covariance = (covariance + covariance.T) / 2
            trial = Weights(now.mean + length * (covariance @ gradient), covariance, now.alpha)
            reached = elbo(trial, phi, y)
            better = trial if reached > height else None
            length /= 2
        if better is None:
            return now
        gain, now, height = reached - height, better, reached
        if gain < 1e-13 * (1 + abs(height)):
            return now
    return now


def _logits(weights: Weights, phi: Tensor) -> tuple[Tensor, Tensor]:
    variance = ((phi @ weights.covariance) * phi).sum(1).clamp_min(0)
    return phi @ weights.mean, variance


def _loss(phi: Tensor, y: Tensor, w: Tensor, alpha: float) -> Tensor:
    """Return -log p(y | w) + α/2 |w|²."""
    logits = phi @ w
    return (softplus(logits) - y * logits).sum() + 0.5 * alpha * w.square().sum()


def _inverse(phi: Tensor, slope: Tensor, alpha: float) -> Tensor:
    """Return (αI + Φᵀ diag(slope) Φ)⁻¹."""
    precision = alpha * torch.eye(phi.shape[1]).to(phi) + phi.T @ (phi * slope[:, None])
    root, failed = torch.linalg.cholesky_ex(precision)
    pivots = root.diagonal().square()
    if int(failed) or float(pivots.min()) < 1e-14 * float(precision.diagonal().max()):
        raise BadInput(
            f"the design is singular and alpha={alpha:g} does not make up for it: "
            "drop repeated columns, rescale them, or raise alpha"
        )
    return torch.cholesky_inverse(root)


def _data(phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    check_real(design=phi, labels=y)
    if phi.ndim != 2 or y.shape != phi.shape[:1] or not len(y):
        raise BadInput(
            f"design {tuple(phi.shape)} and labels {tuple(y.shape)}: give (N, M) and (N,), "
            "N at least 1"
        )
    check_finite_entries(design=phi)
    if not bool(((y == 0) | (y == 1)).all()):
        raise BadInput("labels must be 0 or 1")
    return phi.double(), y.double()
