"""Bayesian linear regression against scikit-learn, scipy and the facts it is known for."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import BayesianRidge
from torch import Tensor

from trustml.bayes import linear_regression as blr
from trustml.errors import BadInput, BadOption


@pytest.fixture(scope="module")
def sinusoid() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, generator=generator, dtype=torch.float64) * 2 - 1
    noise = 0.2 * torch.randn(40, generator=generator, dtype=torch.float64)
    return x, torch.sin(3 * x) + noise


def test_bases_have_the_columns_they_state() -> None:
    x = torch.tensor([2.0, -1.0])
    assert blr.identity_basis(x).tolist() == [[1, 2], [1, -1]]
    assert blr.polynomial_basis(x, 3).tolist() == [[1, 2, 4, 8], [1, -1, 1, -1]]
    pairs = torch.tensor([[2.0, 3.0]])
    assert blr.polynomial_basis(pairs, 2).tolist() == [[1, 2, 3, 4, 9]]
    phi = blr.gaussian_basis(x, torch.tensor([2.0, 0.0]), 0.5)
    expected = [[1, math.exp(-8)], [math.exp(-18), math.exp(-2)]]
    assert torch.allclose(phi, torch.tensor(expected, dtype=torch.float64))


def test_posterior_is_that_of_scikit_learn(sinusoid: tuple[Tensor, Tensor]) -> None:
    """BayesianRidge with flat hyper-priors maximises the same evidence by the same fixed point."""
    x, y = sinusoid
    phi = blr.polynomial_basis(x, 5)
    ours = blr.maximise_evidence(phi, y)
    ridge = BayesianRidge(
        max_iter=3000, tol=1e-12, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False
    ).fit(phi.numpy(), y.numpy())
    assert ours.alpha == pytest.approx(ridge.lambda_, rel=1e-6)
    assert ours.beta == pytest.approx(ridge.alpha_, rel=1e-6)
    # Given the same α and β the posterior is closed form on both sides.
    exact = blr.fit(phi, y, ridge.lambda_, ridge.alpha_)
    assert np.allclose(exact.mean, ridge.coef_, rtol=1e-9, atol=1e-11)
    assert np.allclose(exact.covariance, ridge.sigma_, rtol=1e-9, atol=1e-12)
    mean, variance = blr.predict(exact, phi)
    theirs, deviation = ridge.predict(phi.numpy(), return_std=True)
    assert np.allclose(mean, theirs, atol=1e-11)
    assert np.allclose(variance.sqrt(), deviation, rtol=1e-9)


def test_evidence_is_the_joint_normal_of_scipy(sinusoid: tuple[Tensor, Tensor]) -> None:
    """With w integrated out, y ~ N(0, I/β + ΦΦᵀ/α)."""
    x, y = sinusoid
    for phi in (blr.polynomial_basis(x, 4), blr.gaussian_basis(x, torch.linspace(-1, 1, 60), 0.3)):
        covariance = torch.eye(len(y)).double() / 20 + phi @ phi.T / 0.7
        expected = stats.multivariate_normal(np.zeros(len(y)), covariance.numpy()).logpdf(y.numpy())
        assert blr.log_evidence(phi, y, 0.7, 20.0) == pytest.approx(expected, rel=1e-10)


def test_evidence_is_greatest_where_it_says(sinusoid: tuple[Tensor, Tensor]) -> None:
    x, y = sinusoid
    phi = blr.polynomial_basis(x, 5)
    best = blr.maximise_evidence(phi, y)
    top = blr.log_evidence(phi, y, best.alpha, best.beta)
    for alpha, beta in ((1.05, 1), (0.95, 1), (1, 1.05), (1, 0.95)):
        assert blr.log_evidence(phi, y, best.alpha * alpha, best.beta * beta) < top


def test_evidence_finds_the_noise() -> None:
    """5000 points of known noise: β within five standard errors, √(2/N) of itself."""
    generator = torch.Generator().manual_seed(3)
    phi = torch.randn(5000, 4, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
    noise = 0.5 * torch.randn(5000, generator=generator, dtype=torch.float64)
    found = blr.maximise_evidence(phi, phi @ weights + noise)
    assert found.beta == pytest.approx(4.0, rel=5 * math.sqrt(2 / 5000))


def test_evidence_prefers_the_true_degree() -> None:
    """The Occam factor at work: a cubic's data choose degree 3 among 1 to 8."""
    generator = torch.Generator().manual_seed(1)
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)
    noise = 0.1 * torch.randn(60, generator=generator, dtype=torch.float64)
    y = 1 - 2 * x + 3 * x**3 + noise
    evidence = []
    for degree in range(1, 9):
        phi = blr.polynomial_basis(x, degree)
        best = blr.maximise_evidence(phi, y)
        evidence.append(blr.log_evidence(phi, y, best.alpha, best.beta))
    assert int(np.argmax(evidence)) + 1 == 3


def test_linear_basis_is_surest_at_the_barycentre_even_in_a_hole() -> None:
    """Variance = 1/β + quadratic in x, least at the (nearly) mean of the inputs."""
    x = torch.cat([torch.linspace(-3, -2, 20), torch.linspace(2, 3, 20)]).double()
    weights = blr.fit(blr.identity_basis(x), 0.5 * x, 1e-6, 10.0)
    grid = torch.linspace(-6, 6, 601).double()
    _, variance = blr.predict(weights, blr.identity_basis(grid))
    assert grid[variance.argmin()].item() == pytest.approx(x.mean().item(), abs=0.02)
    right = variance[grid >= 0]
    assert bool((right.diff() > 0).all())


def test_gaussian_basis_falls_back_to_the_noise_far_away(sinusoid: tuple[Tensor, Tensor]) -> None:
    """The known failure: all features vanish, so nothing is unknown of an output that is 0."""
    x, y = sinusoid
    centres = torch.linspace(-1, 1, 9)
    weights = blr.fit(blr.gaussian_basis(x, centres, 0.2), y, 1.0, 25.0)
    mean, variance = blr.predict(weights, blr.gaussian_basis(torch.tensor([50.0]), centres, 0.2))
    assert mean.item() == pytest.approx(0.0, abs=1e-12)
    assert variance.item() == pytest.approx(1 / 25)


def test_data_one_by_one_or_at_once(sinusoid: tuple[Tensor, Tensor]) -> None:
    """The precision adds up over rows, whatever their order."""
    x, y = sinusoid
    phi = blr.polynomial_basis(x, 3)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(5))
    first, second = blr.fit(phi, y, 0.5, 9.0), blr.fit(phi[order], y[order], 0.5, 9.0)
    assert torch.allclose(first.mean, second.mean, atol=1e-11)
    halves = [blr.fit(part, target, 0.5, 9.0) for part, target in
              zip(phi.split(20), y.split(20), strict=True)]  # fmt: skip
    precision = sum(torch.linalg.inv(half.covariance) for half in halves) - 0.5 * torch.eye(4)
    assert torch.allclose(torch.linalg.inv(first.covariance), precision, rtol=1e-9)


def test_posterior_is_laplaces_at_its_own_mode(sinusoid: tuple[Tensor, Tensor]) -> None:
    """For a linear Gaussian model Laplace is exact: mean = mode, covariance = inverse Hessian."""
    x, y = sinusoid
    phi = blr.polynomial_basis(x, 3)

    def negative_log_joint(w: Tensor) -> Tensor:
        return 0.5 * 0.5 * w.square().sum() + 0.5 * 9.0 * (y - phi @ w).square().sum()

    weights = blr.fit(phi, y, 0.5, 9.0)
    at_mode = weights.mean.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(negative_log_joint(at_mode), at_mode)
    assert gradient.abs().max() < 1e-10
    hessian = torch.autograd.functional.hessian(negative_log_joint, weights.mean)
    assert torch.allclose(torch.linalg.inv(hessian), weights.covariance, rtol=1e-9)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_bad_precisions_are_refused(wrong: float, sinusoid: tuple[Tensor, Tensor]) -> None:
    phi = blr.identity_basis(sinusoid[0])
    with pytest.raises(BadOption, match="alpha"):
        blr.fit(phi, sinusoid[1], wrong, 1.0)
    with pytest.raises(BadOption, match="beta"):
        blr.fit(phi, sinusoid[1], 1.0, wrong)
    with pytest.raises(BadOption, match="width"):
        blr.gaussian_basis(sinusoid[0], torch.zeros(1), wrong)


def test_a_singular_design_is_refused_and_the_prior_can_save_it() -> None:
    phi = torch.ones(5, 2)
    y = torch.arange(5.0)
    with pytest.raises(BadInput, match="singular"):
        blr.fit(phi, y, 1e-18, 1.0)
    assert bool(blr.fit(phi, y, 1.0, 1.0).covariance.isfinite().all())


def test_other_bad_input(sinusoid: tuple[Tensor, Tensor]) -> None:
    x, y = sinusoid
    phi = blr.identity_basis(x)
    with pytest.raises(BadInput, match="N at least 1"):
        blr.fit(phi[:0], y[:0], 1.0, 1.0)
    with pytest.raises(BadInput, match="N at least 1"):
        blr.fit(phi, y[:3], 1.0, 1.0)
    with pytest.raises(BadInput, match="NaN"):
        blr.fit(phi, y * math.nan, 1.0, 1.0)
    with pytest.raises(BadInput, match="2 columns"):
        blr.predict(blr.fit(phi, y, 1.0, 1.0), torch.ones(3, 5))
    with pytest.raises(BadInput, match="fitted exactly"):
        blr.maximise_evidence(phi, 2 * x + 1)
    with pytest.raises(BadInput):
        blr.maximise_evidence(phi, torch.zeros(40))
    with pytest.raises(BadInput, match="dimensions"):
        blr.gaussian_basis(torch.zeros(3, 2), torch.zeros(3), 1.0)
    with pytest.raises(BadOption, match="degree=0"):
        blr.polynomial_basis(x, 0)
    with pytest.raises(BadInput, match="inputs"):
        blr.identity_basis(torch.zeros(2, 2, 2))
