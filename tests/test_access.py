"""What a method sees of a model: access levels, counts, budgets, blocks, frozen modules."""

from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed, at, frozen, in_blocks
from trustml.contracts import Access
from trustml.errors import BudgetSpent, MethodFailed, NotApplicable

WEIGHT = torch.tensor([[1.0, -2.0], [0.5, 1.0], [-1.0, 0.0]])
X = torch.tensor([[0.2, 0.4], [0.9, 0.1], [0.5, 0.5], [0.0, 1.0]])


def linear(x: Tensor) -> Tensor:
    """Answer with logits x Wᵀ."""
    return x @ WEIGHT.T


def handed(access: Access, budget: int | None = None) -> Handed:
    """Return the linear model as a method of this access sees it, in blocks of 3."""
    return Handed(linear, access, len(X), budget=budget, block=3)  # type: ignore[arg-type]


def test_each_level_shows_what_it_says_and_no_more() -> None:
    """Truth: the same logits, their softmax, its top entry, and one-hot labels."""
    logits = linear(X)
    probabilities = logits.softmax(1)
    top = torch.nn.functional.one_hot(logits.argmax(1), 3)
    x = X.clone().requires_grad_()
    assert torch.allclose(handed(Access.GRADIENTS)(x), logits)
    assert handed(Access.GRADIENTS)(x).requires_grad
    for access, truth in (
        (Access.LOGITS, logits),
        (Access.PROBABILITIES, probabilities),
        (Access.TOP1, probabilities * top),
        (Access.LABELS, top.float()),
    ):
        answer = handed(access)(x)
        assert torch.allclose(answer, truth)
        assert not answer.requires_grad
        assert torch.equal(answer.argmax(1), logits.argmax(1))


def test_features_are_for_those_who_see_inside() -> None:
    """Features need more than logits."""
    with pytest.raises(NotApplicable, match="LOGITS"):
        handed(Access.LOGITS).features(X)


def test_passes_are_counted_to_their_samples() -> None:
    """One call for all, two rows a sample, then one for samples 3 and 1: 3, 4, 3, 4 forwards."""
    model = handed(Access.GRADIENTS)
    model(X)
    x = torch.cat([X, X]).requires_grad_()
    model(x).sum().backward()
    rows = torch.tensor([3, 1])
    at(model, rows)(X[rows])  # type: ignore[arg-type]
    assert model.forwards.tolist() == [3, 4, 3, 4]
    assert model.backwards.tolist() == [2, 2, 2, 2]
    # Rows of rows: the first of (3, 1) is sample 3.
    model.at(rows).at(torch.tensor([0]))(X[:1])
    assert model.forwards.tolist() == [3, 4, 3, 5]


def test_gradients_pass_unchanged() -> None:
    """Counting must not touch the gradient: for x Wᵀ summed it is the sum of W's rows."""
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(handed(Access.GRADIENTS)(x).sum(), x)
    assert torch.allclose(gradient, WEIGHT.sum(0).expand(4, 2))


def test_budgets_stop_the_next_call() -> None:
    """Two queries are allowed, the third is one too many; unknown rows cannot be counted."""
    model = handed(Access.LABELS, budget=2)
    model(X)
    model.at(torch.tensor([0]))(X[:1])
    with pytest.raises(BudgetSpent, match="2 queries"):
        model.at(torch.tensor([0]))(X[:1])
    with pytest.raises(MethodFailed, match=r"model\.at"):
        handed(Access.LABELS, budget=2)(X[:3])


def test_passes_back_from_features_are_counted_too() -> None:
    """A pass back for each sample whose features are pulled, as from logits."""

    class Featured:
        def __call__(self, x: Tensor) -> Tensor:
            return linear(x)

        def features(self, x: Tensor) -> Tensor:
            return 2 * x

    model = Handed(Featured(), Access.GRADIENTS, len(X))
    x = X[1:3].clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.at(torch.tensor([1, 2])).features(x).sum(), x)
    assert torch.equal(slope, torch.full_like(x, 2.0))
    assert model.forwards.tolist() == model.backwards.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_blocks_have_one_shape(count: int) -> None:
    """The model only ever sees 3 rows, and what comes back is as long as what went in."""
    seen = []

    def watching(x: Tensor) -> Tensor:
        seen.append(len(x))
        return linear(x)

    x = torch.rand(count, 2)
    assert torch.allclose(in_blocks(watching, x, 3), linear(x))
    assert set(seen) == {3}


def test_answers_of_the_wrong_shape_are_refused() -> None:
    """A model must answer a row an input."""
    for wrong in (lambda x: x.sum(), lambda x: x[:1], lambda x: None):
        with pytest.raises(MethodFailed, match="expected"):
            in_blocks(wrong, X, 3)  # type: ignore[arg-type]


def test_frozen_restores_each_module_and_parameter() -> None:
    """Dropout in training mode, one frozen weight: all as before, after an error too."""
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2)).eval()
    network[1].train()
    network[0].weight.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    wanted = [parameter.requires_grad for parameter in network.parameters()]
    with suppress(ZeroDivisionError), frozen(network):
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
        raise ZeroDivisionError
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == wanted
