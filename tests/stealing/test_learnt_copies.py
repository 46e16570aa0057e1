"""Copies learnt from answers: budgets kept exactly, curves, equal seeds, clear refusals."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Dataset, Domain, Terms, Theft
from trustml.errors import BadOption, NotApplicable
from trustml.models.mlp import mlp
from trustml.stealing import _distillation
from trustml.stealing._distillation import distilled, soft_labels
from trustml.stealing._synthetic import shifted, smooth, uniform
from trustml.stealing.active import _spread, _unsure, active
from trustml.stealing.data_free import data_free
from trustml.stealing.jacobian_augmentation import _moved, jacobian_augmentation
from trustml.stealing.knockoff import knockoff
from trustml.victim import Service

METHODS = (knockoff, active, jacobian_augmentation, data_free)
DOMAIN = Domain((6,), 3)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn shortly; and let one epoch be one epoch where nobody looks at what was learnt."""
    steps = 300 if request.node.name.startswith("test_learns") else 1
    monkeypatch.setattr(_distillation, "LEAST_STEPS", steps)


def network(seed: int = 0) -> nn.Module:
    """A victim with planted weights, steep enough that all classes are answered."""
    torch.manual_seed(seed)
    net = nn.Linear(6, 3)
    with torch.no_grad():
        net.weight.copy_(8 * torch.randn(3, 6))
        net.bias.copy_(-net.weight.sum(1) / 2)
    return net


def fresh() -> nn.Module:
    return mlp(DOMAIN, hidden=(16,))


def steal(method: Callable[..., Theft], service: Service, seed: int = 0, **options: Any) -> Theft:
    pool = torch.rand(400, 6, generator=torch.Generator().manual_seed(5))
    random = torch.Generator().manual_seed(seed)
    return method(service, pool, fresh, random=random, **{"epochs": 30} | options)


def agreement(copy: nn.Module, net: nn.Module) -> float:
    x = torch.rand(2000, 6, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        return float((copy(x).argmax(1) == net(x).argmax(1)).double().mean())


@pytest.mark.parametrize(
    ("method", "answers"),
    [
        *((method, Access.LABELS) for method in METHODS),
        (knockoff, Access.TOP1),
        (knockoff, Access.PROBABILITIES),
    ],
)
def test_learns_a_steep_linear_victim(method: Callable[..., Theft], answers: Access) -> None:
    """Half-spaces in six dimensions are easy: chance is below 1/2, a working thief well above."""
    net = network()
    theft = steal(method, Service(net, DOMAIN, Terms(answers=answers)), queries=400)
    assert agreement(theft.copy, net) > 0.85
    assert theft.queries == 400
    assert theft.up_to == "behaviour"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [1, 7, 64])
def test_the_budget_is_used_and_never_overdrawn(method: Callable[..., Theft], budget: int) -> None:
    service = Service(network(), DOMAIN, Terms(answers=Access.LABELS, budget=budget))
    theft = steal(method, service, queries=100, epochs=1)
    assert theft.queries == service.queries == budget


@pytest.mark.parametrize("method", METHODS)
def test_queries_and_curve_are_counted(method: Callable[..., Theft]) -> None:
    """The curve's copies know ever more answers, the last one as many as were asked."""
    service = Service(network(), DOMAIN, Terms(answers=Access.PROBABILITIES))
    service(torch.rand(3, 6))  # asked by somebody else
    theft = steal(method, service, queries=250, epochs=2)
    counts = [*(earlier.queries for earlier in theft.earlier), theft.queries]
    assert counts == sorted(set(counts))
    assert len(counts) > 1
    assert counts[-1] == service.queries - 3 == 250


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_copies(method: Callable[..., Theft]) -> None:
    """Whatever torch's global random numbers are; and another seed gives another copy."""
    copies = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(copies))
        service = Service(network(), DOMAIN, Terms(answers=Access.LABELS))
        torch.manual_seed(10 + len(copies))
        copies.append(steal(method, service, seed, queries=60, epochs=2).copy.state_dict())
    assert all(torch.equal(copies[0][name], copies[1][name]) for name in copies[0])
    assert any(not torch.equal(copies[0][name], copies[2][name]) for name in copies[0])


@pytest.mark.parametrize("method", METHODS)
def test_copies_take_both_precisions(method: Callable[..., Theft]) -> None:
    service = Service(network(), DOMAIN, Terms(answers=Access.LABELS, precision="float64"))
    copy = steal(method, service, queries=40, epochs=1).copy
    for dtype in (torch.float32, torch.float64):
        assert copy(torch.rand(4, 6, dtype=dtype)).dtype == dtype
    assert not copy.training


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_done_is_refused(method: Callable[..., Theft]) -> None:
    with pytest.raises(BadOption):
        steal(method, Service(network(), DOMAIN), queries=0)
    with pytest.raises(BadOption):
        steal(method, Service(network(), DOMAIN), epochs=0)
    spent = Service(network(), DOMAIN, Terms(budget=1))
    spent(torch.rand(1, 6))
    with pytest.raises(NotApplicable, match="at least 1 queries"):
        steal(method, spent)
    if method is not data_free:
        service = Service(network(), DOMAIN)
        with pytest.raises(NotApplicable, match="pool"):
            method(service, torch.zeros(0, 6), fresh, random=torch.Generator())


@pytest.mark.parametrize("method", METHODS)
def test_8_bit_inputs_are_asked_about(method: Callable[..., Theft]) -> None:
    service = Service(network(), DOMAIN, Terms(answers=Access.LABELS, inputs="8-bit"))
    assert steal(method, service, queries=50, epochs=1).queries == 50


@pytest.mark.parametrize("inputs", ["shifted", "noise"])
def test_learns_without_the_pool_as_it_is(inputs: str) -> None:
    net = network()
    service = Service(net, DOMAIN)
    theft = steal(knockoff, service, inputs=inputs, queries=600)
    assert theft.queries == 600
    assert agreement(theft.copy, net) > 0.85


@pytest.mark.parametrize("choice", ["margin", "entropy", "k_center", "random"])
def test_active_asks_about_no_input_twice(choice: str) -> None:
    """Asked for more than the pool holds, it asks about each of its 400 inputs once."""
    seen = []

    class Listening(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return network()(x)

    service = Service(Listening(), DOMAIN)
    theft = steal(active, service, queries=1000, rounds=3, choice=choice, epochs=1)
    assert theft.queries == 400
    assert len(torch.cat(seen).unique(dim=0)) == 400


def test_margin_and_entropy_choose_the_undecided() -> None:
    """A copy that answers its input as logits: the row with two equal best is least certain."""
    pool = torch.tensor([[9.0, 0.0, 0.0], [5.0, 5.0, 0.0], [3.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    left, none = torch.arange(4), torch.zeros(0, dtype=torch.int64)
    assert _unsure(nn.Identity(), pool, left, none, 2, "margin").tolist() == [1, 3]
    # Entropies: 0.003, 0.72, 0.37, 1.02 nats, by p log p.
    assert _unsure(nn.Identity(), pool, left, none, 2, "entropy").tolist() == [3, 1]


def test_k_center_takes_the_farthest_first() -> None:
    """On a line with 0 known: 10 is farthest, then 5 is farther from both than 4 or 9."""
    features = torch.tensor([[4.0], [5.0], [9.0], [10.0]])
    assert _spread(features, torch.zeros(1, 1), 2).tolist() == [3, 1]


def test_augmentation_moves_up_the_copys_logit() -> None:
    """The gradient of a linear logit is its weight row, so each entry moves by its sign."""
    net = network()
    x, labels = torch.full((1, 6), 0.5), torch.eye(3)[[2]]
    moved = _moved(net, x, labels, 0.1)
    torch.testing.assert_close(moved, x + 0.1 * net.weight[2].detach().sign())


def test_soft_labels_say_what_was_answered() -> None:
    service = Service(network(), DOMAIN, Terms(answers=Access.LOGITS))
    x = torch.rand(5, 6)
    truth = service(x).softmax(1)
    torch.testing.assert_close(soft_labels(service, service(x)), truth)
    top = service.at(Access.TOP1)
    labels = soft_labels(top, top(x))
    torch.testing.assert_close(labels.sum(1), torch.ones(5))
    torch.testing.assert_close(labels.amax(1), truth.amax(1).clamp_min(1 / 3))
    rounded = Service(network(), DOMAIN, Terms(decimals=1))
    torch.testing.assert_close(soft_labels(rounded, rounded(x)).sum(1), torch.ones(5))


def test_distillation_reaches_the_entropy_of_its_labels() -> None:
    """The cross-entropy is least where the copy's probabilities are the labels themselves."""
    x = torch.eye(3)
    labels = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    copy = distilled(lambda: nn.Linear(3, 3), x, labels, 2000, seed=0)
    torch.testing.assert_close(copy(x).softmax(1).detach(), labels, atol=0.01, rtol=0)


@pytest.mark.parametrize("shape", [(6,), (1, 8, 8), (3, 5, 7)])
def test_made_up_inputs_are_in_the_box(shape: tuple[int, ...]) -> None:
    domain = Domain(shape, 3, low=-1.0, high=2.0)
    random = torch.Generator().manual_seed(0)
    pool = uniform(domain, 4, random)
    for x in (pool, smooth(domain, 9, random), shifted(domain, pool, 9, random)):
        assert x.shape[1:] == shape
        assert float(x.min()) >= -1.0
        assert float(x.max()) <= 2.0
        assert math.isfinite(float(x.sum()))


@pytest.mark.slow
def test_learns_digits_without_data(digits: Dataset) -> None:
    """Without one digit: 2000 made-up inputs give more than 90 % agreement on real ones."""
    from trustml.contracts import Training
    from trustml.training import fit, seeded

    domain = digits.train.domain
    with seeded(0):
        net = mlp(domain, hidden=(32,))
    training = Training(epochs=30, batch_size=64, learning_rate=3e-3)
    fit(net, digits.train, digits.validation, training, 0)
    theft = data_free(
        Service(net, domain), digits.train.x[:0], lambda: mlp(domain, hidden=(64,)),
        random=torch.Generator().manual_seed(0),
    )  # fmt: skip
    x = digits.test.x
    assert float((theft.copy(x).argmax(1) == net(x).argmax(1)).double().mean()) > 0.9
