"""Explanations give a softmax regression away; of another network a copy is learnt from them."""

import pytest
import torch
from torch import nn

from trustml.contracts import Access, Domain, Terms, Theft
from trustml.errors import BadOption, NotApplicable
from trustml.models.mlp import mlp
from trustml.stealing.explanation_leak import explanation_leak
from trustml.stealing.knockoff import knockoff
from trustml.symmetry import affine_difference
from trustml.training import seeded
from trustml.victim import Service

DOMAIN = Domain((12,), 4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learn shortly: the networks here are small."""
    for module in ("_distillation", "explanation_leak"):
        monkeypatch.setattr(f"trustml.stealing.{module}.LEAST_STEPS", 200)


def linear(seed: int = 0) -> nn.Module:
    """A softmax regression with planted weights, all classes answered in the box."""
    torch.manual_seed(seed)
    net = nn.Linear(12, 4)
    with torch.no_grad():
        net.weight.copy_(3 * torch.randn(4, 12))
        net.bias.copy_(-net.weight.sum(1) / 2)
    return net


def steal(net: nn.Module, seed: int = 0, options: dict[str, int] | None = None, **words) -> Theft:
    terms = Terms(**{"answers": Access.PROBABILITIES, "explains": "logit"} | words)
    pool = torch.rand(300, 12, generator=torch.Generator().manual_seed(1))
    random = torch.Generator().manual_seed(seed)
    return explanation_leak(
        Service(net, DOMAIN, terms), pool, lambda: mlp(DOMAIN, hidden=(24,)), random=random,
        **(options or {}),
    )  # fmt: skip


def error(theft: Theft, net: nn.Module) -> float:
    tables = [
        torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().double()
        for layer in (theft.copy.head, net)
    ]
    return affine_difference(*tables, theft.up_to).largest


@pytest.mark.parametrize("answers", [Access.LOGITS, Access.PROBABILITIES])
@pytest.mark.parametrize("explains", ["logit", "probability"])
@pytest.mark.parametrize(("precision", "close"), [("float64", 1e-9), ("float32", 1e-2)])
def test_a_softmax_regression_comes_back(
    answers: Access, explains: str, precision: str, close: float
) -> None:
    """A logit's gradient is a weight row; K − 1 of a probability give all, up to the shift."""
    net = linear()
    theft = steal(net, answers=answers, explains=explains, precision=precision)
    assert theft.certificate["softmax regression"]
    assert error(theft, net) < close
    told_all = answers == Access.LOGITS and explains == "logit"
    assert theft.up_to == ("nothing" if told_all else "shift")


def test_k_minus_1_probability_gradients_do() -> None:
    """The K − 1 vectors p_c(e_c − p) of different inputs are independent, unless by chance."""
    theft = steal(linear(), explains="probability", precision="float64")
    assert theft.certificate["queries of the copy"] == 3
    assert theft.queries == 3 + 4


def test_a_network_is_learnt_better_with_gradients_than_without() -> None:
    """Each gradient holds D numbers beside the K answered, so few queries tell more."""
    with seeded(3):
        net = mlp(DOMAIN, hidden=(8,))
        with torch.no_grad():
            for part in net.parameters():
                part *= 4
    theft = steal(net, options={"queries": 60})
    assert not theft.certificate["softmax regression"]
    assert theft.queries == 60
    pool = torch.rand(300, 12, generator=torch.Generator().manual_seed(1))
    plain = knockoff(
        Service(net, DOMAIN), pool, lambda: mlp(DOMAIN, hidden=(24,)), queries=60,
        random=torch.Generator().manual_seed(0),
    )  # fmt: skip
    x = torch.rand(2000, 12)
    share = [
        float((copy(x).argmax(1) == net(x).argmax(1)).double().mean())
        for copy in (theft.copy, plain.copy)
    ]
    assert share[0] > share[1]


def test_the_budget_is_never_overdrawn() -> None:
    with seeded(3):
        net = mlp(DOMAIN, hidden=(8,))
    for budget in (8, 9, 30):
        assert steal(net, budget=budget, options={"epochs": 1}).queries <= budget


def test_equal_seeds_give_equal_copies() -> None:
    with seeded(3):
        net = mlp(DOMAIN, hidden=(8,))
    first, second = (steal(net, options={"queries": 40, "epochs": 2}).copy for _ in range(2))
    weights = first.state_dict(), second.state_dict()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_cannot_be_done_is_refused() -> None:
    for words in (
        {"explains": "nothing"}, {"answers": Access.LABELS}, {"decimals": 2}, {"budget": 7}
    ):  # fmt: skip
        with pytest.raises(NotApplicable):
            steal(linear(), **words)
    with pytest.raises(BadOption):
        steal(linear(), options={"checks": 0})
