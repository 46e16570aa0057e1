"""Softmax regression: hand-derived slopes, and four solvers that end at the same optimum."""

import math
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trustml.contracts import Domain, Split, Training
from trustml.errors import BadOption, MissingPackage
from trustml.models._softmax_regression import gradients
from trustml.models.logistic import TRAINING, Logistic
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import evaluate, fit

Digits = tuple[Split, Split, Split]
# At this strength the optimum is well enough conditioned for plain descent to reach it.
STRONG = 0.05


def fitted(digits: Digits, spec: str, seed: int = 0) -> Logistic:
    """Return the model of the recipe, fitted on the digits."""
    train, validation, _ = digits
    recipe = read_recipe(spec)
    module = build(recipe, train.domain, seed)
    fit(module, train, validation, recipe.training, seed)
    assert isinstance(module, Logistic)
    return module


def gauge(module: Logistic) -> Tensor:
    """Return weights and biases less what the softmax cannot see: a shift of all classes."""
    parameters = torch.cat([module.head.weight, module.head.bias[:, None]], 1).detach()
    return parameters - parameters.mean(0)


def slope_at_optimum(module: Logistic, train: Split) -> float:
    """Return the largest entry of the objective's slope by autograd: zero at the optimum."""
    weight = module.head.weight.detach().double().requires_grad_()
    bias = module.head.bias.detach().double().requires_grad_()
    loss = cross_entropy(train.x.double().flatten(1) @ weight.T + bias, train.y)
    (loss + module.l2 / 2 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    return max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))


def test_hand_derived_slopes_are_those_of_autograd_and_of_differences() -> None:
    """dL/dW = xᵀ(softmax - Y)/B and dL/db = mean(softmax - Y), in float64."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(7, 4)), generator.integers(0, 3, 7)
    weight, bias = generator.normal(size=(4, 3)), generator.normal(size=3)
    slope_weight, slope_bias = gradients(weight, bias, x, y)
    w, b = (torch.tensor(part, requires_grad=True) for part in (weight, bias))
    cross_entropy(torch.tensor(x) @ w + b, torch.tensor(y)).backward()
    np.testing.assert_allclose(slope_weight, w.grad, atol=1e-14)
    np.testing.assert_allclose(slope_bias, b.grad, atol=1e-14)

    def loss(weight: np.ndarray, bias: np.ndarray) -> float:
        return float(cross_entropy(torch.tensor(x @ weight + bias), torch.tensor(y)))

    step = 1e-6
    for place in np.ndindex(weight.shape):
        move = np.zeros_like(weight)
        move[place] = step
        difference = (loss(weight + move, bias) - loss(weight - move, bias)) / (2 * step)
        assert slope_weight[place] == pytest.approx(difference, abs=1e-8)
    for k in range(3):
        move = step * np.eye(3)[k]
        difference = (loss(weight, bias + move) - loss(weight, bias - move)) / (2 * step)
        assert slope_bias[k] == pytest.approx(difference, abs=1e-8)


def test_slopes_do_not_overflow() -> None:
    """Logits of a thousand: the softmax is 1 for the winner, so its slope is exactly 0."""
    weight, bias = np.array([[1000.0, 0.0]]), np.zeros(2)
    slope_weight, slope_bias = gradients(weight, bias, np.ones((1, 1)), np.array([0]))
    assert np.array_equal(slope_weight, np.zeros((1, 2)))
    assert np.array_equal(slope_bias, np.zeros(2))


def test_lbfgs_reaches_the_optimum(digits: Digits) -> None:
    """The objective is convex, so a slope of zero is the proof; weights are rounded to float32."""
    module = fitted(digits, f"logistic:l2={STRONG},epochs=500")
    assert slope_at_optimum(module, digits[0]) < 1e-6


@pytest.mark.parametrize(
    ("solver", "tolerance"),
    [
        ("sklearn", 1e-3),
        ("numpy", 0.03),
        pytest.param("keras", 0.03, marks=pytest.mark.slow),
    ],
)
def test_solvers_end_at_the_same_weights(digits: Digits, solver: str, tolerance: float) -> None:
    """The strongly convex objective has one optimum; entries are of order 1."""
    if solver == "keras" and not find_spec("keras"):
        pytest.skip("Keras is not installed")
    truth = gauge(fitted(digits, f"logistic:l2={STRONG},epochs=120"))
    found = gauge(fitted(digits, f"logistic:solver={solver},l2={STRONG},epochs=120"))
    assert float(truth.abs().max()) > 0.3
    assert float((found - truth).abs().max()) < tolerance


@pytest.mark.parametrize(
    "solver", ["sklearn", "numpy", pytest.param("keras", marks=pytest.mark.slow)]
)
def test_solvers_agree_in_accuracy_as_they_come(digits: Digits, solver: str) -> None:
    """With default options the test accuracies lie within half a point, and above 94 %."""
    if solver == "keras" and not find_spec("keras"):
        pytest.skip("Keras is not installed")
    truth = evaluate(fitted(digits, "logistic"), digits[2])[1]
    assert truth > 0.94
    assert abs(evaluate(fitted(digits, f"logistic:solver={solver}"), digits[2])[1] - truth) <= 0.005


@pytest.mark.parametrize("solver", ["torch", "sklearn", "numpy"])
def test_two_classes(solver: str) -> None:
    """scikit-learn keeps one row for two classes: its logits must still be (B, 2) and right."""
    x = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    split = Split(x, (x[:, 0] > x[:, 1]).long(), torch.arange(200), 2)
    module, truth = (Logistic(split.domain, name, 0.01) for name in (solver, "torch"))
    for each in (module, truth):
        fit(each, split, split, replace(TRAINING, epochs=500), 0)
    assert evaluate(module, split)[1] > 0.93
    assert float(gauge(truth).abs().max()) > 2
    assert float((gauge(module) - gauge(truth)).abs().max()) < 0.02


def test_l2_zero_has_no_penalty_in_sklearn(digits: Digits) -> None:
    """Without a penalty separable digits are fitted perfectly."""
    module = fitted(digits, "logistic:solver=sklearn,l2=0")
    assert evaluate(module, digits[0])[1] == 1.0


def test_a_class_without_samples_is_never_the_answer(digits: Digits) -> None:
    """Class 9 is left out of training: scikit-learn returns nine rows, the model has ten."""
    train, validation, test = digits
    seen = train.at(train.y != 9)
    module = build(read_recipe("logistic:solver=sklearn"), train.domain, 0)
    fit(module, seen, validation, TRAINING, 0)
    assert not (module(test.x).argmax(1) == 9).any()
    assert evaluate(module, test.at(test.y != 9))[1] > 0.94


def test_a_step_that_is_too_long_is_shortened(digits: Digits) -> None:
    """A rate of 1000 would diverge; the curvature's bound keeps descent stable."""
    module = fitted(digits, "logistic:solver=numpy,learning_rate=1000,epochs=20")
    assert evaluate(module, digits[2])[1] > 0.93


def test_what_it_learns_lies_in_one_linear_layer(digits: Digits) -> None:
    """Logits are the head's answer to the flattened input: everything can be attacked exactly."""
    module = fitted(digits, "logistic:epochs=5")
    x = digits[2].x
    torch.testing.assert_close(module(x), x.flatten(1) @ module.head.weight.T + module.head.bias)
    assert torch.equal(module.features(x), x.flatten(1))
    assert {name for name, _ in module.named_parameters()} == {"head.weight", "head.bias"}


@pytest.mark.parametrize("solver", ["torch", "numpy"])
def test_the_curve_has_a_point_for_each_state(digits: Digits, solver: str) -> None:
    """The loss falls along the curve, and its last point is the fitted model's."""
    train, validation, _ = digits
    module = Logistic(train.domain, solver, 1e-3)
    curve = fit(module, train, validation, replace(TRAINING, epochs=20), 0)
    assert len(curve) == (4 if solver == "torch" else 20)
    assert curve[-1].train_loss < curve[0].train_loss
    assert evaluate(module, validation)[0] == pytest.approx(curve[-1].validation_loss, abs=1e-6)


@pytest.mark.parametrize("option", [{"weight_decay": 0.1}, {"patience": 3}, {"optimizer": "sgd"}])
def test_training_options_without_use_are_refused(
    digits: Digits, option: dict[str, float | str]
) -> None:
    """An option that would do nothing must not pass in silence."""
    training = replace(Training(), epochs=3, **option)
    with pytest.raises(BadOption, match=f"no use for {next(iter(option))}"):
        fit(Logistic(Domain((1, 8, 8), 10), "torch", 0.1), digits[0], digits[1], training, 0)


@pytest.mark.parametrize("l2", [-0.1, math.nan, math.inf])
def test_a_penalty_below_zero_is_refused(l2: float) -> None:
    """The objective would have no least value."""
    with pytest.raises(BadOption, match="l2="):
        read_recipe("logistic").model.plugin.function(Domain((2,), 2), l2=l2)


def test_keras_missing_says_what_to_install(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Keras the message names the extra."""
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(MissingPackage, match=r"pip install 'trustml\[keras\]'"):
        fitted(digits, "logistic:solver=keras")
