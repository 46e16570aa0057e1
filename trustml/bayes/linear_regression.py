"""Bayesian linear regression: bases, posterior, predictive, and evidence for α and β.

Model: y = Φ(x)ᵀw + noise, w ~ N(0, I/α), noise ~ N(0, 1/β). Source: Bishop 2006, sections 3.3-3.5.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.bayes.checks import (
    check_finite_entries,
    check_positive,
    check_real,
    check_whole,
)
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The posterior N(mean, covariance) of the weights (M,), and the α and β that gave it."""

    mean: Tensor
    covariance: Tensor
    alpha: float
    beta: float


def identity_basis(x: Tensor) -> Tensor:
    """Return Φ (N, 1 + D): a 1, then the inputs (N, D) or (N,) themselves.

    Raises:
        BadInput: x is not (N,) or (N, D), or not finite.
    """
    x = _inputs(x)
    return torch.cat([x.new_ones(len(x), 1), x], dim=1)


def polynomial_basis(x: Tensor, degree: int) -> Tensor:
    """Return Φ (N, 1 + D·degree): a 1, then each input's powers up to `degree`.

    Raises:
        BadInput: x is not (N,) or (N, D), or not finite.
        BadOption: the degree is below 1.
    """
    check_whole(1, degree=degree)
    x = _inputs(x)
    return torch.cat([x.new_ones(len(x), 1), *(x**power for power in range(1, degree + 1))], dim=1)


def gaussian_basis(x: Tensor, centres: Tensor, width: float) -> Tensor:
    """Return Φ (N, M): exp(-|x - centre|² / 2 width²) for each of M centres (M, D) or (M,).

    Far from every centre all features are 0: there the predictive variance falls back to the
    noise 1/β, however little is known. Add a bias and more centres where answers will be asked.

    Raises:
        BadInput: x or centres are not (N,) or (N, D), not finite, or do not fit each other.
        BadOption: the width is not above 0.
    """
    check_positive(width=width)
    x, centres = _inputs(x), _inputs(centres)
    if x.shape[1] != centres.shape[1]:
        raise BadInput(f"inputs of {x.shape[1]} and centres of {centres.shape[1]} dimensions")
    square = (x[:, None] - centres[None]).square().sum(2)
    return torch.exp(-0.5 * square / width**2)


def fit(phi: Tensor, y: Tensor, alpha: float, beta: float) -> Weights:
    """Return the posterior of the weights: covariance (αI + βΦᵀΦ)⁻¹, mean β·covariance·Φᵀy.

    Raises:
        BadInput: no rows, shapes that do not fit, values not finite, or a design so near to
            singular that α does not save it.
        BadOption: α or β is not above 0.
    """
    phi, y = _data(phi, y)
    check_positive(alpha=alpha, beta=beta)
    return _posterior(phi.T @ phi, phi.T @ y, alpha, beta)


def predict(weights: Weights, phi: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predictive mean (B,) and variance (B,) = 1/β + φᵀ·covariance·φ.

    Raises:
        BadInput: Φ does not have one column a weight, or is not finite.
    """
    check_finite_entries(design=phi)
    if phi.ndim != 2 or phi.shape[1] != len(weights.mean):
        raise BadInput(f"design {tuple(phi.shape)}: the fit had {len(weights.mean)} columns")
    phi = phi.double()
    variance = 1 / weights.beta + ((phi @ weights.covariance) * phi).sum(1)
    return phi @ weights.mean, variance


def log_evidence(phi: Tensor, y: Tensor, alpha: float, beta: float) -> float:
    """Return log p(y | Φ, α, β) with the weights integrated out, exactly.

    Raises:
        BadInput: no rows, shapes that do not fit, or values that are not finite.
        BadOption: α or β is not above 0.
    """
    phi, y = _data(phi, y)
    weights = fit(phi, y, alpha, beta)
    count, size = phi.shape
    misfit = beta * (y - phi @ weights.mean).square().sum() + alpha * weights.mean.square().sum()
    volume = torch.linalg.slogdet(weights.covariance).logabsdet
    constant = size * math.log(alpha) + count * math.log(beta / (2 * math.pi))
    return 0.5 * float(constant - misfit + volume)


def maximise_evidence(
    phi: Tensor, y: Tensor, *, sweeps: int = 1000, tolerance: float = 1e-9
) -> Weights:
    """Return the posterior at the α and β of greatest evidence (MacKay's fixed point).

    Args:
        tolerance: stop when neither α nor β moves by more than this share of itself.

    Raises:
        BadInput: as `fit`; also where the evidence has no maximum (the targets are fitted
            exactly, or do not depend on the design at all), or `sweeps` do not reach it.
    """
    phi, y = _data(phi, y)
    gram, target = phi.T @ phi, phi.T @ y
    spectrum = torch.linalg.eigvalsh(gram).clamp_min(0)
    alpha, beta = 1.0, 1 / max(float(y.var(correction=0)), 1e-12)
    for _ in range(sweeps):
        weights = _posterior(gram, target, alpha, beta)
        determined = float((beta * spectrum / (alpha + beta * spectrum)).sum())
        square = float(weights.mean.square().sum())
        misfit = float((y - phi @ weights.mean).square().sum())
        # Below rounding of the data themselves there is no noise left to estimate.
        if misfit <= 1e-20 * float(y.square().sum()) or len(y) <= determined:
            raise BadInput("the targets are fitted exactly: there is no noise to estimate β from")
        if square <= 1e-20 * float(y.square().mean()):
            raise BadInput("the targets do not depend on the design: α grows without bound")
        before = alpha, beta
        alpha, beta = determined / square, (len(y) - determined) / misfit
        if abs(alpha / before[0] - 1) < tolerance and abs(beta / before[1] - 1) < tolerance:
            return _posterior(gram, target, alpha, beta)
    raise BadInput(
        f"α and β still move after {sweeps} sweeps (α={alpha:.3g}, β={beta:.3g}): the evidence "
        "has no clear maximum here; give α and β to fit() instead"
    )


def _posterior(gram: Tensor, target: Tensor, alpha: float, beta: float) -> Weights:
    precision = alpha * torch.eye(len(gram)).to(gram) + beta * gram
    root, failed = torch.linalg.cholesky_ex(precision)
    # A pivot at rounding level means that the inverse would be noise.
    pivots = root.diagonal().square()
    if int(failed) or float(pivots.min()) < 1e-14 * float(precision.diagonal().max()):
        raise BadInput(
            f"the design is singular and alpha={alpha:g} does not make up for it: "
            "drop repeated columns, rescale them, or raise alpha"
        )
    covariance = torch.cholesky_inverse(root)
    mean = beta * torch.cholesky_solve(target[:, None], root)[:, 0]
    return Weights(mean, covariance, alpha, beta)


def _inputs(x: Tensor) -> Tensor:
    check_finite_entries(inputs=x)
    if x.ndim not in (1, 2) or not len(x):
        raise BadInput(f"inputs {tuple(x.shape)}: give (N,) or (N, D), N at least 1")
    return (x[:, None] if x.ndim == 1 else x).double()


def _data(phi: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    check_real(design=phi, targets=y)
    if phi.ndim != 2 or y.shape != phi.shape[:1] or not len(y):
        raise BadInput(
            f"design {tuple(phi.shape)} and targets {tuple(y.shape)}: give (N, M) and (N,), "
            "N at least 1"
        )
    check_finite_entries(design=phi, targets=y)
    return phi.double(), y.double()
