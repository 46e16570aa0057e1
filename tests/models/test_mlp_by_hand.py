"""Hand-written backpropagation against autograd's."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from trustml.contracts import Domain, Split
from trustml.errors import BadOption
from trustml.models.mlp_by_hand import OneAgainstRest, TwoLayers, mlp_by_hand, sigmoid
from trustml.recipes import read_recipe
from trustml.store import build
from trustml.training import evaluate, fit, seeded


def network() -> TwoLayers:
    """Return a small network in float64."""
    with seeded(0):
        return TwoLayers(Domain((2, 3), 4, -1.0, 1.0), 5).double()


def reference(module: TwoLayers, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return features and logits with torch's own sigmoid, for autograd to differentiate."""
    flat = ((x + 1) / 2).flatten(1)
    hidden = torch.sigmoid(flat @ module.weight1.T + module.bias1)
    return hidden, hidden @ module.weight2.T + module.bias2


def inputs() -> tuple[Tensor, Tensor]:
    """Return seven inputs in [-1, 1] and their labels."""
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.rand(7, 2, 3, generator=generator, dtype=torch.float64) - 1
    return x, torch.randint(4, (7,), generator=generator)


def slopes(loss: Tensor, module: TwoLayers, x: Tensor) -> list[Tensor]:
    """Return the loss's slopes for the input and every weight."""
    return list(torch.autograd.grad(loss, [x, *module.parameters()]))


def test_slopes_of_loss_are_those_of_autograd() -> None:
    """Binary cross-entropy over classes: input and all four weights within 1e-10 in float64."""
    module, (x, y) = network(), inputs()
    x.requires_grad_()
    mine = slopes(module.training_loss(x, y, 7), module, x)
    loss = binary_cross_entropy_with_logits(
        reference(module, x)[1], one_hot(y, 4).double(), reduction="sum"
    )
    torch.testing.assert_close(module.training_loss(x, y, 7), loss / 7, atol=1e-12, rtol=0)
    for by_hand, by_autograd in zip(mine, slopes(loss / 7, module, x), strict=True):
        assert float(by_autograd.abs().max()) > 1e-3
        torch.testing.assert_close(by_hand, by_autograd, atol=1e-10, rtol=0)


def test_slopes_of_any_logit_are_those_of_autograd() -> None:
    """An attack differentiates its own loss of the logits, so every logit's slope must be right."""
    module, (x, _) = network(), inputs()
    x.requires_grad_()
    weights = torch.randn(7, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mine = slopes((module(x) * weights).sum(), module, x)
    truth = slopes((reference(module, x)[1] * weights).sum(), module, x)
    for by_hand, by_autograd in zip(mine, truth, strict=True):
        torch.testing.assert_close(by_hand, by_autograd, atol=1e-10, rtol=0)
    torch.testing.assert_close(module.features(x), reference(module, x)[0], atol=1e-12, rtol=0)


def test_first_and_second_slopes_are_those_of_differences() -> None:
    """Finite differences in float64, also of the slope of the slope, which torch derives."""
    module, (x, y) = network(), inputs()
    x = x[:2].requires_grad_()
    assert gradcheck(module, (x,))
    assert gradgradcheck(module, (x,))
    logits = module(x).detach().requires_grad_()
    assert gradcheck(lambda z: OneAgainstRest.apply(z, y[:2]), (logits,))


def test_nothing_overflows() -> None:
    """Logits of ±1000: σ is exactly 0 or 1, and the loss is |z| where the answer is wrong."""
    z = torch.tensor([[1000.0, -1000.0]], requires_grad=True)
    assert sigmoid(z).tolist() == [[1.0, 0.0]]
    loss = OneAgainstRest.apply(z, torch.tensor([1]))
    loss.backward()
    assert loss.item() == 2000.0
    assert z.grad is not None
    assert z.grad.tolist() == [[1.0, -1.0]]


def test_learns_digits(digits: tuple[Split, Split, Split]) -> None:
    """At least 95 % on the test digits by its own slopes alone."""
    train, validation, test = digits
    recipe = read_recipe("mlp_by_hand")
    module = build(recipe, train.domain, 0)
    fit(module, train, validation, recipe.training, 0)
    assert evaluate(module, test)[1] >= 0.95


def test_no_hidden_unit_is_refused() -> None:
    """There would be nothing to learn with."""
    with pytest.raises(BadOption, match="hidden=0"):
        mlp_by_hand(Domain((4,), 3), hidden=0)
