"""Draws against torch.distributions and scipy's tests of fit; gradients against closed forms."""

import math

import pytest
import torch
from scipy import stats

from trustml.bayes.reparameterisations import exponential, gaussian, gumbel, gumbel_softmax
from trustml.errors import BadInput

DRAWS = 20_000


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_draws_have_their_distributions(generator: torch.Generator) -> None:
    """Kolmogorov-Smirnov against scipy at a fixed seed; a wrong shape gives p far below 1e-3."""
    zeros = torch.zeros(DRAWS)
    normal = gaussian(zeros + 2.0, torch.tensor(0.5), generator=generator)
    waiting = exponential(zeros + 4.0, generator=generator)
    assert stats.kstest(normal.numpy(), stats.norm(2.0, 0.5).cdf).pvalue > 1e-3
    assert stats.kstest(waiting.numpy(), stats.expon(scale=0.25).cdf).pvalue > 1e-3
    noise = gumbel(zeros, generator=generator)
    assert stats.kstest(noise.numpy(), stats.gumbel_r.cdf).pvalue > 1e-3


def test_exponential_is_finite_at_the_ends_of_the_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.rand may return exactly 0: -log(0) would be infinite, -log(1 - 0) is 0."""
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor([0.0, 1 - 2.0**-24]))
    draws = exponential(torch.ones(2))
    assert draws.tolist() == pytest.approx([0.0, 24 * math.log(2)])
    assert gumbel(torch.ones(2)).isfinite().all()


def test_gaussian_gradients(generator: torch.Generator) -> None:
    """E[z²] = μ² + σ²: gradients 2μ and 2σ, with the Monte Carlo errors of z·1 and z·ε."""
    mean = torch.tensor(0.7, requires_grad=True)
    scale = torch.tensor(1.3, requires_grad=True)
    z = gaussian(mean.expand(DRAWS), scale, generator=generator)
    (z**2).mean().backward()
    assert mean.grad.item() == pytest.approx(1.4, abs=5 * 2 * 1.3 / math.sqrt(DRAWS))
    assert scale.grad.item() == pytest.approx(2.6, abs=5 * 2 * 2.0 / math.sqrt(DRAWS))


def test_exponential_gradient(generator: torch.Generator) -> None:
    """E[z] = 1/λ has derivative -1/λ²; each draw contributes -z/λ, of deviation 1/λ²."""
    rate = torch.tensor(2.0, requires_grad=True)
    exponential(rate.expand(DRAWS), generator=generator).mean().backward()
    assert rate.grad.item() == pytest.approx(-0.25, abs=5 * 0.25 / math.sqrt(DRAWS))


def test_exponential_gradient_is_that_of_torch_distributions() -> None:
    """Same draw z, same pathwise derivative dz/dλ = -z/λ as Exponential.rsample."""
    for draw in (
        lambda rate: exponential(rate),
        lambda rate: torch.distributions.Exponential(rate).rsample(),
    ):
        rate = torch.tensor([0.5, 3.0], requires_grad=True)
        z = draw(rate)
        z.sum().backward()
        assert torch.allclose(rate.grad, -z / rate)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_straight_through_draws_have_the_softmax_frequencies(
    generator: torch.Generator, temperature: float
) -> None:
    """Chi-square against softmax(logits): exact at every temperature, by the Gumbel-max theorem."""
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    draws = gumbel_softmax(logits.expand(DRAWS, 4), temperature, generator=generator)
    assert torch.allclose(draws.sum(1), torch.ones(DRAWS))
    assert torch.allclose(draws.max(1).values, torch.ones(DRAWS))
    counts, expected = draws.sum(0).numpy(), (DRAWS * logits.softmax(0)).numpy()
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-3


def test_soft_draws_are_those_of_torch_distributions(generator: torch.Generator) -> None:
    """Two samples of one distribution: RelaxedOneHotCategorical is the same relaxation."""
    logits = torch.tensor([0.3, -0.5, 1.0])
    ours = gumbel_softmax(logits.expand(5000, 3), 0.7, straight_through=False, generator=generator)
    torch.manual_seed(1)
    relaxed = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.7), logits=logits)
    theirs = relaxed.sample((5000,))
    for k in range(3):
        assert stats.ks_2samp(ours[:, k].numpy(), theirs[:, k].numpy()).pvalue > 1e-3


def test_straight_through_gradient_is_the_soft_one() -> None:
    """The soft draw's Jacobian is (diag(s) - s sᵀ) / temperature."""
    logits = torch.tensor([0.3, -0.5, 1.0], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, -3.0])
    torch.manual_seed(2)
    soft = gumbel_softmax(logits, 0.5, straight_through=False).detach()
    torch.manual_seed(2)
    (gumbel_softmax(logits, 0.5) * weights).sum().backward()
    jacobian = (torch.diag(soft) - torch.outer(soft, soft)) / 0.5
    assert torch.allclose(logits.grad, jacobian @ weights, atol=1e-6)


def test_cold_soft_draws_are_nearly_one_hot(generator: torch.Generator) -> None:
    draws = gumbel_softmax(torch.zeros(1000, 5), 0.01, straight_through=False, generator=generator)
    assert (draws.max(1).values > 0.99).float().mean() > 0.95


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_bad_parameters_are_refused(wrong: float) -> None:
    with pytest.raises(BadInput, match="temperature"):
        gumbel_softmax(torch.zeros(3), wrong)
    with pytest.raises(BadInput, match="rate"):
        exponential(torch.tensor([1.0, wrong]))
    if wrong:
        with pytest.raises(BadInput, match="scale"):
            gaussian(torch.zeros(2), torch.tensor([1.0, wrong]))
    with pytest.raises(BadInput, match="logits"):
        gumbel_softmax(torch.tensor([0.0, math.nan]), 1.0)
    with pytest.raises(BadInput, match="mean"):
        gaussian(torch.tensor([0.0, math.nan]), torch.ones(2))
