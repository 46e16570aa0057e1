"""Victims that misbehave are named, whoever robs them; what was paid for is not lost."""

import re
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Domain, Terms, Theft
from trustml.countering import countering
from trustml.errors import MethodFailed, NotApplicable, Refused
from trustml.fingerprint import fingerprint
from trustml.models.mlp import mlp
from trustml.registry import get
from trustml.victim import Service

DOMAIN = Domain((6,), 4)
POOL = torch.rand(120, 6, generator=torch.Generator().manual_seed(1))
EXACT = ("linear_exact", "linear_labels", "linear_rounded", "linear_top1", "relu_exact")
LEARNT = ("active", "data_free", "jacobian_augmentation", "knockoff")
ALL = (*EXACT, *LEARNT, "auto")


def weights() -> Tensor:
    return torch.arange(28.0, dtype=torch.float64).view(4, 7).cos()


def logits(x: Tensor) -> Tensor:
    return x @ weights()[:, :-1].T.to(x) + weights()[:, -1].to(x)


def rob(name: str, victim: Service, **options: object) -> Theft:
    return get("stealer", name).function(
        victim, POOL, lambda: mlp(DOMAIN, hidden=(8,)),
        random=torch.Generator().manual_seed(0), **options,
    )  # fmt: skip


def terms(name: str, **words: object) -> Terms:
    inputs = "free" if name == "relu_exact" else "box"
    return Terms(**{"precision": "float64", "inputs": inputs} | words)


class From:
    """A model that answers as `then` does from query number `number` on."""

    def __init__(self, number: int, then: Callable[[Tensor], Tensor]) -> None:
        self.number, self.then, self.asked = number, then, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.asked += 64  # rows of a block
        return self.then(x) if self.asked > self.number else logits(x)


@pytest.mark.parametrize("name", ALL)
def test_nan_is_named_with_the_query(name: str) -> None:
    nan = From(64, lambda x: logits(x) * torch.nan)
    with pytest.raises((MethodFailed, NotApplicable), match=r"answer to query \d+ is not finite"):
        rob(name, Service(nan, DOMAIN, terms(name)))


@pytest.mark.parametrize("name", ALL)
def test_another_shape_is_named(name: str) -> None:
    narrow = Service(lambda x: logits(x)[:, :3], DOMAIN, terms(name))
    with pytest.raises((MethodFailed, NotApplicable), match="3 values a query; it has 4 classes"):
        rob(name, narrow)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("linear_exact", 7),  # D+1
        ("linear_rounded", 7),
        ("linear_top1", 21),  # (K−1)(D+1)
        ("linear_labels", 330),  # 2·40 starts, 10 checks, 1.4·21 borders of 8 bits
        ("relu_exact", 14),
        ("auto", 100),
        ("knockoff", 1),
    ],
)
def test_a_budget_below_the_least_is_refused_with_the_least(name: str, least: int) -> None:
    victim = Service(logits, DOMAIN, terms(name, budget=1))
    if least == 1:
        assert rob(name, victim).queries == 1
        return
    with pytest.raises(NotApplicable, match=rf"at least {least} queries .* 1 are left"):
        rob(name, victim)
    assert victim.queries == 0


@pytest.mark.parametrize("name", EXACT)
def test_more_than_is_shown_is_refused(name: str) -> None:
    """Labels alone: those that need more say what they need and what there is."""
    if name == "linear_labels":
        return
    with pytest.raises(NotApplicable, match=r"needs \w+ or more, and this victim answers labels"):
        rob(name, Service(logits, DOMAIN, terms(name, answers=Access.LABELS)))


@pytest.mark.parametrize("name", ["linear_exact", "linear_labels", "relu_exact"])
def test_a_victim_that_changes_its_mind_fools_no_exact_thief(name: str) -> None:
    """Other weights after a while: an error, or a copy that is not certified."""
    level = Access.LABELS if name == "linear_labels" else Access.PROBABILITIES
    turned = From(64 if name == "linear_exact" else 1500, lambda x: -logits(x))
    victim = Service(turned, DOMAIN, terms(name, answers=level))
    theft = None
    with suppress(MethodFailed, NotApplicable):
        theft = rob(name, victim)
    assert theft is None or not theft.certificate.get("right", False)
    assert theft is None or theft.up_to == "behaviour"


def test_a_victim_that_rolls_dice_is_seen_to() -> None:
    draw = torch.Generator().manual_seed(0)

    def coin(x: Tensor) -> Tensor:
        return logits(x) + torch.randn(len(x), 4, generator=draw).to(x)

    victim = Service(coin, DOMAIN, terms("linear_exact"))
    seen = fingerprint(victim, torch.Generator().manual_seed(0))
    assert not seen.deterministic
    assert "random" in seen.against(victim.terms)[0]
    with pytest.raises(MethodFailed, match="noisy"):
        rob("linear_exact", Service(coin, DOMAIN, terms("linear_exact")))


def test_rounding_that_was_not_stated() -> None:
    """The exact solver is not fooled; the fit works on what there is; auto chooses it."""
    masks = (lambda p: p.round(decimals=2),)
    with pytest.raises(NotApplicable, match=r"no softmax regression|needs probabilities above 0"):
        rob("linear_exact", Service(logits, DOMAIN, terms(""), masks=masks))
    theft = rob("auto", Service(logits, DOMAIN, terms(""), masks=masks))
    assert theft.certificate["method"] == "linear_rounded"
    alike = theft.certificate["checks that the copy answers alike"]
    assert re.fullmatch(r"(3\d|40) of 40", alike), "as counts, not as a bare share"
    with torch.no_grad():
        alike = theft.copy(POOL).argmax(1) == logits(POOL).argmax(1)
    assert float(alike.double().mean()) > 0.95


@pytest.mark.parametrize("name", LEARNT)
def test_learnt_copies_survive_a_refusal(name: str) -> None:
    """The account closes after the first round: its copy comes back, and says why it is alone."""
    gates = countering("account:queries=60", POOL, 0).gates
    victim = Service(logits, DOMAIN, Terms(), gates=gates)
    options = {"queries": 100, "epochs": 1}
    options |= {"seeds": 50} if name == "jacobian_augmentation" else {}
    options |= {"rounds": 2} if name in ("active", "data_free") else {}
    theft = rob(name, victim, **options)
    assert "account is closed" in theft.certificate["stopped"]
    assert isinstance(theft.copy, nn.Module)


@pytest.mark.parametrize("name", ["knockoff", "linear_exact", "linear_rounded", "linear_labels"])
def test_refused_from_the_first_query_is_said(name: str) -> None:
    gates = countering("account:queries=1", POOL, 0).gates
    victim = Service(logits, DOMAIN, terms(name), gates=gates)
    options = {"snapshots": 1} if name == "knockoff" else {}
    with pytest.raises(Refused, match="account is closed"):
        rob(name, victim, **options)


@pytest.mark.parametrize("name", ["linear_exact", "linear_rounded", "linear_labels", "knockoff"])
def test_a_class_that_never_appears(name: str) -> None:
    """A logit of −30 everywhere: copies never answer it; bisection names it."""

    def without_two(x: Tensor) -> Tensor:
        z = logits(x).clone()
        z[:, 2] = -30.0
        return z

    level = Access.LABELS if name == "linear_labels" else Access.PROBABILITIES
    theft = rob(name, Service(without_two, DOMAIN, terms(name, answers=level)))
    with torch.no_grad():
        assert not bool((theft.copy(POOL).argmax(1) == 2).any())
    if name == "linear_labels":
        assert theft.certificate["classes never answered"] == [2]
        assert theft.up_to == "behaviour"
