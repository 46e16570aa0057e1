"""Gradient estimators on ELBOs whose gradient is known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from trustml.bayes.conjugate import Normal, normal_log_evidence, normal_normal
from trustml.bayes.gradient_estimators import (
    DiagonalGaussian,
    Estimator,
    elbo_gradients,
    others_mean,
    smoothed_gradient,
)
from trustml.errors import BadInput, BadOption

ESTIMATORS: tuple[Estimator, ...] = (
    "score",
    "score_baseline",
    "reparameterised",
    "sticking_the_landing",
)
DRAWS = 20_000
CENTRE = torch.tensor([0.5, -1.0], dtype=torch.float64)
WIDTH = torch.tensor([1.0, 0.6], dtype=torch.float64)


def _target(z: Tensor) -> Tensor:
    """Return an unnormalised log density, N(CENTRE, WIDTH²) plus 3."""
    return 3 - 0.5 * ((z - CENTRE) / WIDTH).square().sum(-1)


@pytest.fixture
def noise() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(DRAWS, 2, generator=generator, dtype=torch.float64)


@pytest.fixture
def belief() -> DiagonalGaussian:
    return DiagonalGaussian(torch.tensor([1.2, -0.7]).double(), torch.tensor([-0.3, 0.1]).double())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_is_unbiased(
    estimator: Estimator, belief: DiagonalGaussian, noise: Tensor
) -> None:
    """ELBO of two Gaussians: gradients (c - μ)/w² and 1 - σ²/w², to 4.5 standard errors."""
    each = elbo_gradients(_target, belief, noise, estimator=estimator)
    scale = belief.log_scale.exp()
    truth = torch.stack([(CENTRE - belief.mean) / WIDTH**2, 1 - (scale / WIDTH) ** 2])
    error = (each.mean(0) - truth) / (each.std(0) / math.sqrt(DRAWS))
    assert error.abs().max() < 4.5


def test_variances_are_ordered(belief: DiagonalGaussian, noise: Tensor) -> None:
    """A constant of 30 in log p hurts the bare score only; the slope of log p beats its values."""
    variance = [
        elbo_gradients(lambda z: 30 + _target(z), belief, noise, estimator=estimator)
        .var(0)
        .sum()
        .item()
        for estimator in ("score", "score_baseline", "reparameterised")
    ]
    assert variance[0] > 2 * variance[1] > 2 * variance[2]


def test_at_the_posterior_sticking_the_landing_is_zero_and_the_others_are_not(
    noise: Tensor,
) -> None:
    """The integrand log p - log q is constant there, so its path derivative vanishes draw by draw.

    The reparameterised one keeps the score's own noise: -ε/w for the mean, 1 - ε² for log_scale.
    """
    exact = DiagonalGaussian(CENTRE, WIDTH.log())
    landing = elbo_gradients(_target, exact, noise)
    assert landing.abs().max() < 1e-12
    plain = elbo_gradients(_target, exact, noise, estimator="reparameterised")
    assert torch.allclose(plain[:, 0], -noise / WIDTH)
    assert torch.allclose(plain[:, 1], 1 - noise**2)
    baseline = elbo_gradients(_target, exact, noise, estimator="score_baseline")
    assert baseline.abs().max() < 1e-10  # constant integrand: leave-one-out removes all of it


@pytest.mark.parametrize(
    ("estimator", "deviation"),
    [("reparameterised", 0.74), ("sticking_the_landing", 1 / 0.74 - 0.74)],
)
def test_known_deviations(estimator: Estimator, deviation: float, noise: Tensor) -> None:
    """Target N(0, 1) from q = N(0.7, 0.74²): the mean's gradient is -0.7 for both.

    Reparameterised: -(0.7 + 0.74 ε), deviation 0.74; sticking: adds ε/0.74, deviation 1/.74 - .74.
    """
    belief = DiagonalGaussian(torch.tensor([0.7]).double(), torch.tensor([0.74]).double().log())
    gradients = elbo_gradients(
        lambda z: -0.5 * z.square().sum(-1), belief, noise[:, :1], estimator=estimator
    )
    each = gradients[:, 0]
    assert each.mean().item() == pytest.approx(-0.7, abs=5 * deviation / math.sqrt(DRAWS))
    assert each.std().item() == pytest.approx(deviation, rel=0.03)


def test_gradients_are_autograds(belief: DiagonalGaussian, noise: Tensor) -> None:
    """The closed forms against autograd of the surrogate that defines each estimator."""
    few = noise[:5]
    for estimator in ("score", "reparameterised", "sticking_the_landing"):
        mean = belief.mean.clone().requires_grad_()
        log_scale = belief.log_scale.clone().requires_grad_()
        q = DiagonalGaussian(mean, log_scale)
        z = q.at(few)
        if estimator == "score":
            z = z.detach()
            weight = (_target(z) - q.log_density(z)).detach()
            surrogate = (weight * q.log_density(z)).mean()
        elif estimator == "reparameterised":
            surrogate = (_target(z) - q.log_density(z)).mean()
        else:
            fixed = DiagonalGaussian(mean.detach(), log_scale.detach())
            surrogate = (_target(z) - fixed.log_density(z)).mean()
        expected = torch.stack(torch.autograd.grad(surrogate, (mean, log_scale)))
        ours = elbo_gradients(_target, belief, few, estimator=estimator).mean(0)
        assert torch.allclose(ours, expected, atol=1e-12)


def test_score_has_zero_mean(belief: DiagonalGaussian, noise: Tensor) -> None:
    """E[∇log q] = 0: with a constant target only -log q is left, whose gradient is (0, 1)."""
    each = elbo_gradients(lambda z: 0 * z.sum(-1), belief, noise, estimator="score")
    flat = torch.stack([torch.zeros(2), torch.ones(2)]).double()
    assert ((each.mean(0) - flat) / (each.std(0) / math.sqrt(DRAWS))).abs().max() < 4.5


def test_ascent_reaches_the_conjugate_posterior_and_its_evidence() -> None:
    """Normal-Normal: at the exact posterior ELBO = log evidence, and nowhere is it above."""
    data, prior = [1.0, 2.5, 0.3], Normal(0, 2)
    points = torch.tensor(data, dtype=torch.float64)

    def log_joint(z: Tensor) -> Tensor:
        fit = -0.5 * (points - z).square() - 0.5 * math.log(2 * math.pi)
        return fit.sum(-1) - z[:, 0] ** 2 / 4 - 0.5 * math.log(4 * math.pi)

    posterior, generator = normal_normal(prior, data, 1.0), torch.Generator().manual_seed(0)
    parameters = torch.zeros(2, 1, dtype=torch.float64)
    evidence = normal_log_evidence(prior, data, 1.0)
    for _ in range(300):
        noise = torch.randn(20, 1, generator=generator, dtype=torch.float64)
        q = DiagonalGaussian(*parameters)
        grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
        weight = torch.exp(-0.5 * grid[:, 0] ** 2) * 0.004 / math.sqrt(2 * math.pi)
        elbo = (weight * (log_joint(q.at(grid)) - q.log_density(q.at(grid)))).sum()
        assert elbo < evidence + 1e-9
        parameters += 0.1 * elbo_gradients(log_joint, q, noise).mean(0)
    assert parameters[0].item() == pytest.approx(posterior.mean, abs=1e-6)
    assert parameters[1].exp().item() ** 2 == pytest.approx(posterior.variance, rel=1e-5)
    assert elbo.item() == pytest.approx(evidence, abs=1e-8)


@pytest.mark.parametrize("baseline", [True, False])
def test_smoothed_gradient_of_a_quadratic(baseline: bool, noise: Tensor) -> None:
    """E[|x + sε|²] = |x|² + const, gradient 2x: for each row of the batch, with its own noise."""
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).double()
    draws = noise.view(DRAWS // 2, 2, 2)
    values = (x + 0.1 * draws).square().sum(2)
    each = (values - (others_mean(values) if baseline else 0))[..., None] * draws / 0.1
    ours = smoothed_gradient(values, draws, 0.1, baseline=baseline)
    assert torch.allclose(ours, each.mean(0))
    assert ((ours - 2 * x) / (each.std(0) / math.sqrt(DRAWS // 2))).abs().max() < 4.5


def test_baseline_is_independent_of_its_draw_and_removes_constants() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    assert others_mean(values).tolist() == [4.0, 3.5, 1.5]
    noise = torch.randn(3, 1, 4)
    assert smoothed_gradient(torch.full((3, 1), 1e3), noise, 0.1).abs().max() == 0


def test_bad_input(belief: DiagonalGaussian, noise: Tensor) -> None:
    with pytest.raises(BadOption, match="score_baseline"):
        elbo_gradients(_target, belief, noise, estimator="pathwise")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="give"):
        elbo_gradients(_target, belief, noise[:, :1])
    with pytest.raises(BadInput, match="2 draws"):
        elbo_gradients(_target, belief, noise[:1], estimator="score_baseline")
    with pytest.raises(BadInput, match="for 20000 points"):
        elbo_gradients(lambda z: z, belief, noise)
    with pytest.raises(BadInput, match="NaN"):
        elbo_gradients(lambda z: z[:, 0] * math.nan, belief, noise)
    with pytest.raises(BadInput, match="use score"):
        elbo_gradients(lambda z: z[:, 0].detach(), belief, noise)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(BadOption, match="scale"):
            smoothed_gradient(torch.ones(2, 1), torch.ones(2, 1, 3), wrong)
    with pytest.raises(BadInput, match="give"):
        smoothed_gradient(torch.ones(2, 1), torch.ones(3, 1, 3), 0.1)
    with pytest.raises(BadInput, match="NaN"):
        smoothed_gradient(torch.full((2, 1), math.nan), torch.ones(2, 1, 3), 0.1)
