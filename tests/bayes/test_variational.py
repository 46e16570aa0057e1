"""Variational layers: KL by torch.distributions, noise by its moments, an exact optimum."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import linear

from trustml.bayes.variational import (
    Conv2dVariational,
    Estimator,
    LinearVariational,
    VariationalOptions,
    drawn,
    kl,
)
from trustml.errors import BadOption, NotApplicable

ESTIMATORS: tuple[Estimator, ...] = ("weights", "local", "flipout")


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _network(estimator: Estimator = "flipout", prior_scale: float = 1.0) -> nn.Sequential:
    options = VariationalOptions(prior_scale, 0.3, estimator)
    return nn.Sequential(
        Conv2dVariational(2, 3, 3, padding=1, stride=2, options=options),
        nn.ReLU(),
        nn.Flatten(),
        LinearVariational(3 * 4 * 4, 5, options=options),
    )


def test_kl_is_that_of_torch_distributions_summed_over_every_weight() -> None:
    network = _network(prior_scale=0.7)
    for name, parameter in network.named_parameters():
        if name.endswith("rho"):
            nn.init.normal_(parameter)
    total = torch.zeros(())
    for name, mean in network.named_parameters():
        if name.endswith("mean"):
            rho = network.get_parameter(name.removesuffix("mean") + "rho")
            posterior = Normal(mean, torch.log1p(rho.exp()))
            total = total + kl_divergence(posterior, Normal(0.0, 0.7)).sum()
    assert kl(network).item() == pytest.approx(total.item(), rel=1e-5)


def test_kl_is_zero_at_the_prior_only() -> None:
    layer = LinearVariational(4, 3, options=VariationalOptions(0.5, 0.5))
    assert kl(layer) > 0
    for name, parameter in layer.named_parameters():
        if name.endswith("mean"):
            nn.init.zeros_(parameter)
    assert kl(layer).item() == pytest.approx(0, abs=1e-5)


def test_initial_scale_is_the_scale_asked_for() -> None:
    for scale in (1e-3, 0.03, 2.0):
        layer = LinearVariational(4, 3, options=VariationalOptions(initial_scale=scale))
        assert layer.belief.weight.scale.detach() == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_noise_has_the_exact_mean_and_variance(estimator: Estimator, kind: str) -> None:
    """Outputs are linear in Gaussian weights, so their two moments are known in closed form."""
    options = VariationalOptions(1.0, 0.3, estimator)
    if kind == "linear":
        layer: nn.Module = LinearVariational(6, 4, options=options)
        x = torch.randn(3, 6)
        scale = layer.belief.weight.scale  # type: ignore[union-attr]
        variance = linear(x**2, scale**2, layer.belief.bias.scale**2)  # type: ignore[union-attr]
    else:
        layer, x = Conv2dVariational(2, 4, 3, padding=1, options=options), torch.randn(3, 2, 5, 5)
        variance = layer.moments(x)[1]
    draws = 4000
    with torch.no_grad():
        outputs = torch.stack([layer(x) for _ in range(draws)])
        layer.eval()
        mean = layer(x)
    # Six standard errors on every entry: sqrt(v / S) for the mean, v sqrt(2 / S) for the variance.
    assert (outputs.mean(0) - mean).abs().max() < 6 * (variance / draws).sqrt().max()
    assert ((outputs.var(0) / variance - 1).abs().max()) < 6 * math.sqrt(2 / draws)


def test_convolution_moments_are_those_of_numbered_draws() -> None:
    layer, x, draws = Conv2dVariational(2, 4, 3), torch.randn(2, 2, 5, 5), 3000
    outputs = []
    with torch.no_grad():
        for number in range(draws):
            with drawn(layer, number):
                outputs.append(layer(x))
        mean, variance = layer.moments(x)
    stacked = torch.stack(outputs)
    assert ((stacked.mean(0) - mean) / (variance / draws).sqrt()).abs().max() < 5
    assert (stacked.var(0) / variance - 1).abs().max() < 6 * math.sqrt(2 / draws)


def test_local_and_flipout_noise_differs_between_samples_and_weights_noise_does_not() -> None:
    """Equal rows answer equally under one shared network; per-sample noise tells them apart."""
    x = torch.ones(2, 6)
    for estimator, shared in (("weights", True), ("local", False), ("flipout", False)):
        layer = LinearVariational(6, 40, options=VariationalOptions(1.0, 0.3, estimator))
        first, second = layer(x)
        assert torch.allclose(first, second, atol=1e-5) is shared


def test_flipout_samples_are_uncorrelated_given_the_draw() -> None:
    layer = LinearVariational(6, 1, bias=False, options=VariationalOptions(1.0, 0.5, "flipout"))
    x = torch.randn(1, 6).repeat(2, 1)
    with torch.no_grad():
        pairs = torch.stack([layer(x).flatten() for _ in range(4000)])
    assert torch.corrcoef(pairs.T)[0, 1].abs() < 0.08  # five standard errors of 1/sqrt(4000)


def test_a_numbered_draw_is_one_network_always() -> None:
    network, x = _network(), torch.randn(6, 2, 8, 8)
    with drawn(network, 3) as fixed:
        first = fixed(x)
    torch.manual_seed(99)
    network.eval()
    with drawn(network, 3):
        again, halves = network(x), torch.cat([network(x[:2]), network(x[2:])])
    assert torch.equal(first, again)
    assert torch.allclose(first, halves, atol=1e-6)  # not per-batch noise


def test_draws_differ_by_number_seed_and_layer() -> None:
    layers = nn.Sequential(LinearVariational(5, 5), LinearVariational(5, 5))
    layers[1].load_state_dict(layers[0].state_dict())
    seen = []
    for number, seed in ((0, 0), (1, 0), (0, 1)):
        with drawn(layers, number, seed=seed):
            seen += [layer.belief.held[0].detach() for layer in layers]
    for i, first in enumerate(seen):
        for second in seen[:i]:
            assert not torch.isclose(first, second).any()


def test_eval_mode_uses_the_means_and_the_block_leaves_nothing_behind() -> None:
    network, x = _network(), torch.randn(2, 2, 8, 8)
    network.eval()
    plain = network(x)
    assert torch.equal(plain, network(x))
    with drawn(network, 0):
        assert not torch.allclose(plain, network(x))
        with pytest.raises(RuntimeError), drawn(network, 1):
            network(x[:, :1])  # wrong number of channels
    assert torch.equal(plain, network(x))


def test_draws_carry_gradients_to_means_and_scales() -> None:
    """With w = μ + softplus(ρ) ε, dw/dμ = 1 and dw/dρ = sigmoid(ρ) ε, where ε = (w - μ) / scale."""
    layer = LinearVariational(3, 2, bias=False)
    with drawn(layer, 1):
        weight = layer.belief.held[0]
        weight.sum().backward()
    belief = layer.belief.weight
    assert torch.equal(belief.mean.grad, torch.ones(2, 3))
    expected = torch.sigmoid(belief.rho) * (weight - belief.mean) / belief.scale
    assert torch.allclose(belief.rho.grad, expected, atol=1e-6)


def test_mean_field_optimum_on_a_linear_model_and_elbo_below_the_evidence() -> None:
    """The best diagonal Gaussian for linear regression is known (Bishop 2006, section 10.1.2).

    It has the exact posterior's mean and the precisions diag(S⁻¹); its ELBO falls short of the log
    evidence by KL(q ‖ p) = ½ (Σ log S⁻¹ᵢᵢ - log |S⁻¹|).
    """
    x, noise = (
        torch.randn(30, 3, dtype=torch.float64)
        @ torch.tensor([[1.0, 0.8, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64),
        0.4,
    )
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + noise * torch.randn(30)
    layer = LinearVariational(3, 1, bias=False, options=VariationalOptions(prior_scale=2.0))
    layer.double()

    def loss() -> Tensor:
        mean, variance = layer.moments(x)
        square = (y - mean[:, 0]) ** 2 + variance[:, 0]  # expected squared error, exactly
        fit = 0.5 * (square / noise**2 + math.log(2 * math.pi * noise**2)).sum()
        return fit + kl(layer)

    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    precision = torch.eye(3) / 2.0**2 + x.T @ x / noise**2
    posterior_mean = torch.linalg.solve(precision, x.T @ y) / noise**2
    belief = layer.belief.weight
    assert torch.allclose(belief.mean.detach()[0], posterior_mean, atol=1e-6)
    assert torch.allclose(belief.scale.detach()[0] ** -2, precision.diagonal(), rtol=1e-5)
    covariance = noise**2 * torch.eye(30) + 4.0 * x @ x.T
    evidence = torch.distributions.MultivariateNormal(torch.zeros(30).double(), covariance)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision))
    assert evidence.log_prob(y).item() + loss().item() == pytest.approx(gap.item(), rel=1e-6)
    assert gap > 0.1


def test_a_copy_and_a_state_dict_carry_everything() -> None:
    network, x = _network(), torch.randn(2, 2, 8, 8)
    twin = copy.deepcopy(network)
    other = _network()
    other.load_state_dict(network.state_dict())
    for model in (twin, other):
        with drawn(network, 5), drawn(model, 5):
            assert torch.equal(network(x), model(x))


def test_a_dead_input_gives_finite_gradients() -> None:
    layer = LinearVariational(3, 2, bias=False, options=VariationalOptions(estimator="local"))
    layer(torch.zeros(4, 3)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_bad_scales_are_refused(wrong: float) -> None:
    with pytest.raises(BadOption, match="prior_scale"):
        VariationalOptions(prior_scale=wrong)
    with pytest.raises(BadOption, match="initial_scale"):
        VariationalOptions(initial_scale=wrong)


def test_other_bad_input() -> None:
    with pytest.raises(BadOption, match="weights, local, flipout"):
        VariationalOptions(estimator="reinforce")  # type: ignore[arg-type]
    with pytest.raises(BadOption, match="in_features=0"):
        LinearVariational(0, 3)
    with pytest.raises(NotApplicable, match="no variational layer"):
        kl(nn.Linear(2, 2))
    with pytest.raises(NotApplicable, match="no variational layer"), drawn(nn.Linear(2, 2), 0):
        pass


def test_flipout_flips_the_bias_noise_of_each_sample_too() -> None:
    layer = LinearVariational(3, 60, options=VariationalOptions(1.0, 0.3, "flipout"))
    first, second = layer(torch.zeros(2, 3)) - layer.belief.bias.mean
    assert torch.allclose(first.abs(), second.abs(), atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-2)
