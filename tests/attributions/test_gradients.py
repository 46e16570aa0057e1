"""Explanations by gradients, held against functions whose gradients are known by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.attributions.gradient import gradient
from trustml.attributions.gradient_shap import gradient_shap
from trustml.attributions.input_x_gradient import input_x_gradient
from trustml.attributions.integrated_gradients import integrated_gradients
from trustml.attributions.internal_influence import internal_influence
from trustml.attributions.linear_exact import linear_exact
from trustml.attributions.smooth_grad import smooth_grad
from trustml.contracts import Classifier
from trustml.errors import BadInput, BadOption, MethodFailed, NotApplicable

X = torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]])
TARGET = torch.tensor([0, 1])
BLACK = torch.zeros(4, 3)


class Function(nn.Module):
    """Logits from a plain function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def features(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def squares(x: Tensor) -> Tensor:
    """f₀ = x₀² + 2 x₁² + 3 x₂², f₁ = -f₀."""
    total = (x.square() * torch.tensor([1.0, 2.0, 3.0])).sum(1)
    return torch.stack([total, -total], 1)


SIGN = torch.tensor([[1.0], [-1.0]])
SLOPES = SIGN * 2 * X * torch.tensor([1.0, 2.0, 3.0])


def test_gradient_and_input_times_gradient() -> None:
    """d/dx of a x² is 2 a x."""
    model = Function(squares)
    assert torch.allclose(gradient(model, X, TARGET, BLACK), SLOPES)
    assert torch.allclose(input_x_gradient(model, X, TARGET, BLACK), X * SLOPES)


def test_integrated_gradients_of_squares() -> None:
    """∫ 2 a t x dt · x = a x²; the midpoint rule is exact for a linear integrand."""
    found = integrated_gradients(Function(squares), X, TARGET, BLACK)
    assert torch.allclose(found, X * SLOPES / 2, atol=1e-6)


def test_integrated_gradients_start_at_the_baseline() -> None:
    """From the background's mean b: a (x - b)(x + b), entry by entry."""
    background = torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]])
    middle = background.mean(0)
    found = integrated_gradients(Function(squares), X, TARGET, background, baseline="mean")
    wanted = SIGN * torch.tensor([1.0, 2.0, 3.0]) * (X - middle) * (X + middle)
    assert torch.allclose(found, wanted, atol=1e-5)


def cliff(x: Tensor) -> Tensor:
    """A sigmoid so steep that few points on the way fall on its slope."""
    return torch.stack([torch.sigmoid(4000 * (x.sum(1) - 0.3)), x.sum(1) * 0], 1)


def test_steps_grow_until_the_map_sums_up() -> None:
    """The difference is 1; eight points see next to nothing of a slope 1/1000 wide."""
    x, target = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    black = torch.zeros(1, 2)
    coarse = integrated_gradients(Function(cliff), x, target, black, steps=8, bound=1e9)
    assert abs(float(coarse.sum()) - 1) > 0.5
    found = integrated_gradients(Function(cliff), x, target, black, steps=8, bound=0.01)
    assert abs(float(found.sum()) - 1) <= 0.01
    with pytest.raises(MethodFailed, match="1 of 1 maps do not sum"):
        integrated_gradients(Function(cliff), x, target, black, steps=8, most_steps=32, bound=0.01)


def test_internal_influence_at_the_input_is_the_mean_gradient() -> None:
    """Of squares from zero: half the gradient at x, which times x is integrated gradients."""
    found = internal_influence(Function(squares), X, TARGET, BLACK)
    assert torch.allclose(found, SLOPES / 2, atol=1e-5)


def test_internal_influence_of_a_layer() -> None:
    """After a 1x1 convolution by 2, its mean gradient is the sum's, 3 everywhere."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        network[0].weight.fill_(2.0)
        network[2].weight.fill_(3.0)
    x, target = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
    found = internal_influence(network, x, target, x * 0, layer="0")
    assert torch.allclose(found, torch.full_like(x, 3.0))
    assert torch.allclose(internal_influence(network, x, target, x), torch.full_like(x, 6.0))
    with pytest.raises(NotApplicable, match="has no layer 'five'"):
        internal_influence(network, x, target, x, layer="five")


def test_smooth_grad_without_noise_is_the_gradient() -> None:
    found = smooth_grad(Function(squares), X, TARGET, BLACK, noise=0.0, draws=3)
    assert torch.allclose(found, SLOPES)


def test_smooth_grad_of_squares() -> None:
    """2 a (x + mean noise): within four standard errors of 2 a x, and not right on it."""
    found = smooth_grad(Function(squares), X, TARGET, BLACK, noise=0.1, draws=400)
    spread = X.amax(1) - X.amin(1)
    error = 2 * 3.0 * 0.1 * float(spread.max()) / 20
    assert 0 < float((found - SLOPES).abs().max()) < 4 * error


def test_gradient_shap_of_squares() -> None:
    """Its mean over the way from one baseline is integrated gradients: a x² from zero."""
    found = gradient_shap(Function(squares), X, TARGET, BLACK, draws=2000)
    wanted = X * SLOPES / 2
    # The point on the way is uniform: a relative standard deviation of 1/√3, over √2000.
    assert torch.allclose(found, wanted, rtol=4 / 3**0.5 / 2000**0.5)


def test_a_linear_models_attribution_is_its_weight_row() -> None:
    layer = nn.Linear(3, 2)
    found = linear_exact(layer, X, TARGET, BLACK)
    assert torch.allclose(found, layer.weight.detach()[TARGET], atol=1e-7)


def test_what_is_not_affine_has_no_exact_attribution() -> None:
    for model in (Function(squares), nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))):
        with pytest.raises(NotApplicable, match="not affine"):
            linear_exact(model, X, TARGET, BLACK)


@pytest.mark.parametrize("method", [gradient, integrated_gradients, linear_exact])
def test_a_model_without_gradients_is_refused(method: Callable[..., Tensor]) -> None:
    def answers(x: Tensor) -> Tensor:
        return squares(x.detach())

    with pytest.raises(NotApplicable, match="needs gradients"):
        method(answers, X, TARGET, BLACK)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0]), "one class number a row"),
        (torch.tensor([0.0, 1.0]), "one class number a row"),
        (torch.tensor([0, -1]), "one class number a row"),
        (torch.tensor([0, 2]), "no class 2"),
    ],
)
def test_targets_that_are_none(target: Tensor, message: str) -> None:
    model: Classifier = Function(squares)
    for method in (gradient, integrated_gradients, smooth_grad):
        with pytest.raises(BadInput, match=message):
            method(model, X, target, BLACK)


def test_options_out_of_range() -> None:
    for method, options in (
        (integrated_gradients, {"steps": 0}),
        (integrated_gradients, {"bound": 0.0}),
        (smooth_grad, {"draws": 0}),
        (smooth_grad, {"noise": -0.1}),
        (gradient_shap, {"draws": 0}),
        (internal_influence, {"steps": 0}),
    ):
        with pytest.raises(BadOption, match=f"{method.__name__}: {next(iter(options))}="):
            method(Function(squares), X, TARGET, BLACK, **options)
