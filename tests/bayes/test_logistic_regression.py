"""Bayesian logistic regression against quadrature, scikit-learn and softmax Laplace."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from trustml.bayes import laplace
from trustml.bayes import logistic_regression as blogit
from trustml.bayes.linear_regression import identity_basis
from trustml.errors import BadInput, BadOption


@pytest.fixture(scope="module")
def blobs() -> tuple[Tensor, Tensor]:
    """Two Gaussian blobs, 40 points."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(40) % 2
    centre = torch.where(y[:, None] == 1, 0.7, -0.7)
    return centre + torch.randn(40, 2, generator=generator, dtype=torch.float64), y


@pytest.mark.parametrize("mean", [-30.0, -2.0, 0.0, 0.7, 12.0])
@pytest.mark.parametrize("scale", [0.0, 0.01, 0.9, 1.0, 1.1, 5.0, 300.0])
def test_logistic_normal_means_are_those_of_quadrature(mean: float, scale: float) -> None:
    """Adaptive quadrature of scipy, split where the integrand turns."""
    both = torch.tensor([mean, scale], dtype=torch.float64)
    ours = blogit.logistic_normal(both[0], both[1])
    functions = (
        lambda a: np.logaddexp(0, a),
        lambda a: expit(a),
        lambda a: expit(a) * expit(-a),
    )
    for value, function in zip(ours, functions, strict=True):
        if scale == 0:
            expected = function(mean)
        else:
            normal = lambda z, f=function: f(mean + scale * z) * math.exp(-0.5 * z * z)  # noqa: E731
            turn = min(max(-mean / scale, -9.5), 9.5)
            edges = sorted(
                {-10.0, turn - min(0.5, 50 / scale), turn, turn + min(0.5, 50 / scale), 10.0}
            )
            pieces = [quad(normal, *ends, epsabs=1e-14, limit=200)[0] for ends in pairwise(edges)]
            expected = sum(pieces) / math.sqrt(2 * math.pi)
        assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_map_is_that_of_scikit_learn(blobs: tuple[Tensor, Tensor]) -> None:
    """LogisticRegression minimises C Σ loss + ½ |w|², so C = 1/α; the 1 is one of the columns."""
    x, y = blobs
    phi = identity_basis(x)
    ours = blogit.fit(phi, y, method="map", alpha=0.5)
    theirs = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-12, max_iter=1000)
    theirs.fit(phi.numpy(), y.numpy())
    assert np.allclose(ours.mean, theirs.coef_[0], atol=1e-6)
    probability, variance = blogit.predict(ours, phi)
    assert np.allclose(probability, theirs.predict_proba(phi.numpy())[:, 1], atol=1e-6)
    assert variance.abs().max() == 0


def test_laplace_covariance_is_autograds_inverse_hessian(blobs: tuple[Tensor, Tensor]) -> None:
    x, y = blobs
    phi, fitted = identity_basis(x), blogit.fit(identity_basis(x), y, alpha=0.7)

    def loss(w: Tensor) -> Tensor:
        error = torch.nn.functional.binary_cross_entropy_with_logits(
            phi @ w, y.double(), reduction="sum"
        )
        return error + 0.35 * w.square().sum()

    hessian = torch.autograd.functional.hessian(loss, fitted.mean)
    assert torch.allclose(torch.linalg.inv(hessian), fitted.covariance, rtol=1e-8)


def test_two_class_softmax_laplace_is_logistic_laplace(blobs: tuple[Tensor, Tensor]) -> None:
    """Weights ±w/2 of prior precision 2α: the same likelihood and prior for the difference w."""
    x, y = blobs
    fitted = blogit.fit(identity_basis(x), y, alpha=0.7)
    bias, weight = fitted.mean[0], fitted.mean[1:]
    layer = laplace.fit_last_layer(
        x,
        torch.stack([-weight / 2, weight / 2]),
        torch.stack([-bias / 2, bias / 2]),
        structure="full",
        prior_precision=1.4,
    )
    covariance = layer.logit_covariance(5 * x)
    difference = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
    _, variance = blogit.predict(fitted, identity_basis(5 * x))
    assert torch.allclose(difference, variance, rtol=1e-8)


def test_elbo_is_below_the_evidence_and_above_laplaces_own(blobs: tuple[Tensor, Tensor]) -> None:
    """The true evidence by 2-D quadrature; the variational one is the best Gaussian."""
    x, y = blobs
    phi, alpha = x[:12], 0.3
    labels = y[:12]
    best = blogit.fit(phi, labels, method="variational", alpha=alpha)
    around = blogit.fit(phi, labels, method="laplace", alpha=alpha)
    signs, rows = 2 * labels.numpy() - 1, phi.numpy()

    def joint(b: float, a: float) -> float:
        logits = signs * (rows @ np.array([a, b]))
        prior = alpha / (2 * math.pi) * math.exp(-0.5 * alpha * (a * a + b * b))
        return prior * math.exp(-np.logaddexp(0, -logits).sum())

    evidence = math.log(dblquad(joint, -14, 14, -14, 14, epsabs=1e-12, epsrel=1e-8)[0])
    reached, laplaces = blogit.elbo(best, phi, labels), blogit.elbo(around, phi, labels)
    assert laplaces < reached < evidence
    assert evidence - reached < 0.1
    assert blogit.laplace_log_evidence(around, phi, labels) == pytest.approx(evidence, abs=0.15)


def test_variational_gaussian_is_a_stationary_point(blobs: tuple[Tensor, Tensor]) -> None:
    """At the optimum Σ⁻¹ = αI + Σ E[σ'] φφᵀ and Σ (y - E[σ]) φ = α m (Opper and Archambeau)."""
    x, y = blobs
    phi = identity_basis(x)
    best = blogit.fit(phi, y, method="variational", alpha=0.2)
    scale = ((phi @ best.covariance) * phi).sum(1).sqrt()
    _, probability, slope = blogit.logistic_normal(phi @ best.mean, scale)
    precision = 0.2 * torch.eye(3).double() + phi.T @ (phi * slope[:, None])
    assert torch.allclose(torch.linalg.inv(best.covariance), precision, rtol=1e-4)
    assert torch.allclose(phi.T @ (y - probability), 0.2 * best.mean, atol=1e-4)


def test_uncertainty_grows_away_from_the_data_but_not_for_the_map(
    blobs: tuple[Tensor, Tensor],
) -> None:
    """Along a direction d the logit's mean and deviation grow alike: P → Φ(mᵀd / √(dᵀΣd)) < 1."""
    x, y = blobs
    steps = torch.ones(1, 2).double() * torch.tensor([[4.0], [40.0], [4e5]]).double()
    for method in ("map", "laplace", "variational"):
        fitted = blogit.fit(identity_basis(x), y, method=method, alpha=0.1)
        probability, variance = blogit.predict(fitted, identity_basis(steps))
        if method == "map":
            assert probability[-1] == 1.0
            continue
        assert bool((variance.diff() > 0).all())
        ratio = fitted.mean[1:].sum() / fitted.covariance[1:, 1:].sum().sqrt()
        limit = torch.special.ndtr(ratio)
        assert probability[-1].item() == pytest.approx(limit.item(), abs=1e-6)
        assert limit < 0.9999


def test_separable_data_have_a_finite_answer() -> None:
    phi = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    for method in ("map", "laplace", "variational"):
        fitted = blogit.fit(phi, torch.tensor([0, 1]), method=method, alpha=1e-4)
        assert bool(fitted.mean.isfinite().all())
        assert bool(fitted.covariance.isfinite().all())


def test_bad_input(blobs: tuple[Tensor, Tensor]) -> None:
    phi, y = blobs
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(BadOption, match="alpha"):
            blogit.fit(phi, y, alpha=wrong)
    with pytest.raises(BadOption, match="map, laplace, variational"):
        blogit.fit(phi, y, method="mle")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="0 or 1"):
        blogit.fit(phi, y + 1)
    with pytest.raises(BadInput, match="N at least 1"):
        blogit.fit(phi[:0], y[:0])
    with pytest.raises(BadInput, match="NaN"):
        blogit.fit(phi * math.nan, y)
    with pytest.raises(BadInput, match="singular"):
        blogit.fit(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]), alpha=1e-18)
    with pytest.raises(BadInput, match="2 columns"):
        blogit.predict(blogit.fit(phi, y), torch.ones(3, 5))
    with pytest.raises(BadInput, match="no ELBO"):
        blogit.elbo(blogit.fit(phi, y, method="map"), phi, y)
    with pytest.raises(BadInput, match="no evidence"):
        blogit.laplace_log_evidence(blogit.fit(phi, y, method="map"), phi, y)
