"""Last-layer Laplace by autograd's Hessian, by its own draws, by laplace-torch if installed."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from trustml.bayes import laplace
from trustml.bayes.curvature import Kronecker, contrasts
from trustml.bayes.laplace import LastLayer, fit_last_layer, log_evidence, predict
from trustml.errors import BadInput, BadOption, NotApplicable

N, D, K = 120, 6, 4
SHAPES: tuple[dict[str, Any], ...] = (
    {"structure": "full"},
    {"structure": "kronecker", "bias_block": "joint"},
    {"structure": "kronecker", "bias_block": "separate"},
)


class Problem:
    """A softmax layer at the MAP of a small problem with prior precision 2."""

    def __init__(self, examples: int = N) -> None:
        generator = torch.Generator().manual_seed(0)
        self.h = torch.randn(examples, D, generator=generator, dtype=torch.float64)
        truth = torch.randn(D, K, generator=generator, dtype=torch.float64)
        noise = torch.randn(examples, K, generator=generator, dtype=torch.float64)
        self.y = (self.h @ truth + noise).argmax(1)
        self.far = 3 * torch.randn(40, D, generator=generator, dtype=torch.float64)
        theta = torch.zeros(K * (D + 1), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([theta], max_iter=300, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(theta) + theta.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        self.theta = theta.detach()
        self.weight, self.bias = self.theta.view(K, D + 1)[:, :-1], self.theta.view(K, D + 1)[:, -1]

    def loss(self, theta: Tensor) -> Tensor:
        """Return the summed cross-entropy of parameters (K·(D+1),), each class's bias last."""
        joint = theta.view(K, D + 1)
        return cross_entropy(self.h @ joint[:, :-1].T + joint[:, -1], self.y, reduction="sum")

    def fit(self, **options: Any) -> LastLayer:
        return fit_last_layer(self.h, self.weight, self.bias, **options)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem()


def test_full_covariance_is_the_inverse_hessian_of_autograd(problem: Problem) -> None:
    """For a softmax layer the generalised Gauss-Newton matrix is the Hessian itself."""
    hessian = torch.autograd.functional.hessian(problem.loss, problem.theta)
    covariance = torch.linalg.inv(hessian + 2.0 * torch.eye(K * (D + 1)))
    h = torch.nn.functional.pad(problem.far, (0, 1), value=1.0)
    jacobian = torch.einsum("kj,bd->bkjd", torch.eye(K).double(), h).flatten(2)
    expected = jacobian @ covariance @ jacobian.mT
    layer = problem.fit(structure="full", prior_precision=2.0)
    assert torch.allclose(layer.logit_covariance(problem.far), expected, rtol=1e-9)


def test_evidence_is_laplaces_formula_on_autograds_hessian(problem: Problem) -> None:
    """Laplace: log p(D, θ*) + ½ P log 2π - ½ log |H + δI|."""
    hessian = torch.autograd.functional.hessian(problem.loss, problem.theta) + 2.0 * torch.eye(
        K * (D + 1)
    )
    prior = torch.distributions.Normal(0, torch.tensor(0.5).double().sqrt())
    expected = (
        -problem.loss(problem.theta)
        + prior.log_prob(problem.theta).sum()
        + 0.5 * len(problem.theta) * math.log(2 * math.pi)
        - 0.5 * torch.logdet(hessian)
    )
    layer = problem.fit(structure="full", prior_precision=2.0)
    ours = log_evidence(layer, problem.h, problem.y)
    assert ours == pytest.approx(expected.item(), rel=1e-10)


def test_kronecker_is_exact_on_one_example() -> None:
    """With N = 1 the curvature is one Kronecker product, so it must equal the full one."""
    lone = Problem(1)
    full = lone.fit(structure="full", prior_precision=0.3)
    factored = lone.fit(structure="kronecker", prior_precision=0.3)
    expected = full.logit_covariance(lone.far)
    assert torch.allclose(factored.logit_covariance(lone.far), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_variances_are_the_diagonal_of_the_covariance(problem: Problem, shape: dict) -> None:
    layer = problem.fit(prior_precision=1.0, **shape)
    diagonal = layer.logit_covariance(problem.far).diagonal(dim1=1, dim2=2)
    assert torch.allclose(layer.logit_variances(problem.far), diagonal, rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_contrasts_are_those_of_the_covariance(problem: Problem, shape: dict) -> None:
    """The short way through the eigenvectors gives what the whole covariance does."""
    layer = problem.fit(prior_precision=1.0, **shape)
    expected = contrasts(layer.logit_covariance(problem.far))
    assert torch.allclose(layer.contrast_variances(problem.far), expected, rtol=1e-10)


def test_contrasts_do_not_see_a_common_shift_and_keep_independent_logits() -> None:
    """C + s·11ᵀ is the covariance of logits to which a shift of variance s was added."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, K, K, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT
    assert torch.allclose(contrasts(covariance), contrasts(covariance + 1e4), rtol=1e-7)
    variances = torch.tensor([[0.5, 2.0, 2.0, 3.5], [1.0, 1.0, 1.0, 1.0]]).double()
    assert torch.allclose(contrasts(torch.diag_embed(variances)).mean(1), variances.mean(1))
    assert torch.allclose(contrasts(torch.diag_embed(variances[1:])), variances[1:])


def test_contrast_link_is_right_where_the_shift_is_all_there_is() -> None:
    """A firm belief about differences, none about the shift: the softmax of the mean is exact."""
    mean = torch.tensor([2.0, 0.0, -1.0]).double()
    sure = LastLayer(
        mean[:, None], torch.zeros(3).double(),
        Kronecker(torch.linalg.eigh(1e9 * (3 * torch.eye(3) - torch.ones(3, 3)).double()),
                  torch.linalg.eigh(torch.eye(2).double()), 0.01), None,
    )  # fmt: skip
    x = torch.ones(1, 1).double()
    assert float(sure.logit_variances(x).min()) > 50
    assert torch.allclose(predict(sure, x), softmax(mean, 0)[None], atol=1e-6)
    assert (predict(sure, x, link="probit") - softmax(mean, 0)).abs().max() > 0.2
    sampled = predict(sure, x, link="monte_carlo", draws=20)
    assert torch.allclose(sampled, softmax(mean, 0)[None], atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_draws_have_the_stated_covariance(problem: Problem, shape: dict) -> None:
    layer, draws = problem.fit(prior_precision=1.0, **shape), 4000
    weights = [layer.draw(number) for number in range(draws)]
    x = problem.far[0]
    logits = torch.stack([weight @ x + bias for weight, bias in weights])
    mean, covariance = layer.logits(x[None])[0], layer.logit_covariance(x[None])[0]
    error = (logits.mean(0) - mean) / (covariance.diagonal() / draws).sqrt()
    assert error.abs().max() < 5  # standard errors
    scale = torch.outer(covariance.diagonal(), covariance.diagonal()).sqrt()
    assert ((torch.cov(logits.T) - covariance) / scale).abs().max() < 5 * math.sqrt(2 / draws)


def test_a_numbered_draw_is_the_same_always(problem: Problem) -> None:
    first, again = problem.fit(prior_precision=1.0), problem.fit(prior_precision=1.0)
    assert torch.equal(first.draw(3)[0], again.draw(3)[0])
    assert not torch.isclose(first.draw(3)[0], first.draw(4)[0]).any()
    assert not torch.isclose(first.draw(3)[0], first.draw(3, seed=1)[0]).any()


def test_links_agree_where_they_must(problem: Problem) -> None:
    """Monte Carlo is the truth as draws grow; the probit link is close; a firm prior gives MAP."""
    layer = problem.fit(structure="full", prior_precision=2.0)
    sampled = predict(layer, problem.h, link="monte_carlo", draws=3000)
    probit, bridge = (predict(layer, problem.h, link=link) for link in ("probit", "bridge"))
    assert (probit - sampled).abs().max() < 0.05
    assert (predict(layer, problem.h) - sampled).abs().max() < 0.05
    assert (bridge - sampled).abs().mean() < 0.05
    firm = predict(problem.fit(structure="full", prior_precision=1e9), problem.h)
    at_map = softmax(problem.h @ problem.weight.T + problem.bias, dim=1)
    assert torch.allclose(firm, at_map, atol=1e-6)


def test_bridge_keeps_the_moments_of_a_dirichlet() -> None:
    """Hobbhahn et al.: Dir(α) ↔ mean ψ-free map μ = log α - mean log α, Σ = diag(1/α) projected.

    So mapping a Dirichlet to the Gaussian and back must return its mean.
    """
    alpha = torch.tensor([3.0, 9.0, 4.0, 30.0], dtype=torch.float64)
    classes = len(alpha)
    mean = alpha.log() - alpha.log().mean()
    inverse = 1 / alpha
    covariance = (
        torch.diag(inverse)
        - (inverse[:, None] + inverse[None]) / classes
        + inverse.sum() / classes**2
    )
    # The projected covariance is singular along 1; any variance along it must be conditioned away.
    covariance = covariance + 0.5
    returned = laplace._bridge(mean[None], covariance[None])[0]
    assert torch.allclose(returned, alpha / alpha.sum(), atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_chosen_prior_has_the_greatest_evidence(problem: Problem, shape: dict) -> None:
    best = problem.fit(**shape)
    value = log_evidence(best, problem.h, problem.y)
    for factor in (0.98, 1.02):
        other = problem.fit(prior_precision=best.prior_precision * factor, **shape)
        assert log_evidence(other, problem.h, problem.y) < value


def test_types_follow_the_features(problem: Problem) -> None:
    for shape in SHAPES:
        layer = problem.fit(prior_precision=1.0, **shape)
        single, double = predict(layer, problem.far.float()), predict(layer, problem.far)
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), double, atol=1e-5)


@pytest.mark.parametrize("structure", ["kron", "full"])
@pytest.mark.filterwarnings("ignore")
def test_probabilities_are_those_of_laplace_torch(problem: Problem, structure: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = pytest.importorskip(
            "laplace", reason="laplace-torch is not installed", exc_type=ImportError
        )
    head = torch.nn.Linear(D, K).double()
    head.weight.data, head.bias.data = problem.weight.clone(), problem.bias.clone()
    network = torch.nn.Sequential(torch.nn.Identity(), head)
    data = torch.utils.data.TensorDataset(problem.h, problem.y)
    theirs = peer.Laplace(
        network, "classification", "last_layer", structure, prior_precision=2.0,
        last_layer_name="1",
    )  # fmt: skip
    theirs.fit(torch.utils.data.DataLoader(data, batch_size=50))
    shape: dict[str, Any] = (
        {"structure": "full"}
        if structure == "full"
        else {"structure": "kronecker", "bias_block": "separate"}
    )
    ours = problem.fit(prior_precision=2.0, **shape)
    for link in ("probit", "bridge"):
        expected = theirs(problem.far, link_approx=link)
        assert torch.allclose(predict(ours, problem.far, link=link), expected, atol=1e-12)
    evidence = log_evidence(ours, problem.h, problem.y)
    assert evidence == pytest.approx(theirs.log_marginal_likelihood().item(), rel=1e-8)


def test_bad_input(problem: Problem) -> None:
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(BadOption, match="prior_precision"):
            problem.fit(prior_precision=wrong)
    with pytest.raises(BadOption, match="kronecker, full"):
        problem.fit(structure="diagonal")
    with pytest.raises(BadOption, match="contrast, probit, bridge, monte_carlo"):
        predict(problem.fit(prior_precision=1.0), problem.h, link="logit")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="layer reads"):
        predict(problem.fit(prior_precision=1.0), problem.h[:, :3])
    with pytest.raises(BadInput, match="give"):
        fit_last_layer(problem.h[:0], problem.weight, problem.bias)
    with pytest.raises(BadInput, match="NaN"):
        fit_last_layer(problem.h * math.nan, problem.weight, problem.bias)
    with pytest.raises(BadInput, match="no best prior"):
        fit_last_layer(problem.h, torch.zeros(K, D), torch.zeros(K))
    with pytest.raises(NotApplicable, match="structure=kronecker"):
        fit_last_layer(torch.zeros(2, 700), torch.zeros(10, 700), torch.zeros(10), structure="full")
    with pytest.raises(BadInput, match="labels"):
        log_evidence(problem.fit(prior_precision=1.0), problem.h, problem.y[:3])
