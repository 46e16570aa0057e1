"""Forty queries tell of a victim what is true of it."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BudgetSpent, Refused
from trustml.fingerprint import Fingerprint, fingerprint
from trustml.victim import Service


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def softmax() -> Callable[..., nn.Module]:
    """Softmax regressions with weights from N(0, scale²)."""

    def built(inputs: int, classes: int, scale: float = 0.05) -> nn.Module:
        model = nn.Sequential()
        model.add_module("head", nn.Linear(inputs, classes))
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for part in model.parameters():
                part.copy_(torch.randn(part.shape, generator=draw) * scale)
        return model

    return built


def look(model: nn.Module, terms: Terms, random: torch.Generator) -> Fingerprint:
    return fingerprint(Service(model, Domain((12,), 4), terms), random)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("answers", "method"),
    [
        (Access.LOGITS, "linear_exact"),
        (Access.PROBABILITIES, "linear_exact"),
        (Access.TOP1, "linear_top1"),
        (Access.LABELS, "linear_labels"),
    ],
)
def test_what_is_answered_and_what_that_invites(
    softmax, random, answers: Access, method: str, precision: str
) -> None:
    seen = look(softmax(12, 4, 0.5), Terms(answers, precision=precision), random)
    assert seen.answers == answers.name.lower()
    assert seen.methods[0] == method
    assert seen.sums_to_one == (answers in (Access.PROBABILITIES, Access.LABELS))
    assert seen.deterministic
    assert seen.queries <= 45
    if answers in (Access.TOP1, Access.PROBABILITIES):
        assert seen.float32_grid == (precision == "float32")
        assert seen.decimals is None
    if answers >= Access.PROBABILITIES:
        assert (seen.affine, seen.kinks) == (True, 0)


@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_decimals_are_counted(softmax, random, decimals: int) -> None:
    seen = look(softmax(12, 4, 0.5), Terms(decimals=decimals), random)
    assert seen.decimals == decimals
    assert seen.methods[0] == "linear_rounded"
    assert seen.affine is None, "rounded values do not tell"


def test_inputs_are_tried(softmax, random) -> None:
    for inputs, outside, levels in (
        ("free", True, False), ("box", False, False), ("8-bit", False, True),
    ):  # fmt: skip
        seen = look(softmax(12, 4, 0.5), Terms(Access.LOGITS, inputs=inputs), random)
        assert (seen.takes_outside, seen.levels) == (outside, levels)


def test_explanations_are_the_shortest_way(softmax, random) -> None:
    seen = look(softmax(12, 4, 0.5), Terms(Access.LABELS, "logit"), random)
    assert seen.explains
    assert seen.methods[0] == "explanation_leak"
    assert not look(softmax(12, 4, 0.5), Terms(Access.LABELS), random).explains


def drawn(*layers: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for layer in layers:
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    return nn.Sequential(*layers)


@pytest.mark.parametrize("answers", [Access.LOGITS, Access.PROBABILITIES])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("width", [3, 64])
def test_kinks_tell_a_relu_network_from_a_smooth_one(
    random, answers: Access, precision: str, width: int
) -> None:
    """A line through H ReLUs has H kinks at most, and short steps meet none; tanh is all curve."""
    terms = Terms(answers, precision=precision)
    relu = drawn(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 4))
    with torch.no_grad():  # kinks in the middle of the box
        relu[0].weight *= 4
        relu[0].bias.copy_(-relu[0].weight.sum(1) / 2)
    seen = look(relu, terms, random)
    assert seen.kinks is not None
    assert 1 <= seen.kinks <= width
    assert (seen.affine, seen.piecewise_affine, seen.methods[0]) == (False, True, "relu_exact")
    curved = drawn(nn.Linear(12, width), nn.Tanh(), nn.Linear(width, 4))
    with torch.no_grad():
        curved[0].weight *= 4
    seen = look(curved, terms, random)
    assert (seen.affine, seen.piecewise_affine, seen.kinks) == (False, False, None)
    assert seen.methods == ("active", "knockoff")
    assert seen.queries <= 45


def test_a_class_that_never_comes_up_hides_no_straight_line(softmax, random) -> None:
    """One logit of −1000: its probability is 0 everywhere, and the other log-ratios tell."""
    model = softmax(12, 4, 0.5)
    with torch.no_grad():
        model.head.bias[2] = -1000.0
    seen = look(model, Terms(), random)
    assert seen.affine
    assert 2 not in seen.classes_seen


def test_a_victim_that_is_random_is_seen_to_be(softmax, random) -> None:
    model, draw = softmax(12, 4), torch.Generator().manual_seed(0)
    seen = look(lambda x: model(x) + torch.randn(len(x), 4, generator=draw), Terms(), random)
    assert not seen.deterministic
    assert seen.affine is None


def test_it_prints_one_line_a_finding_and_keeps_to_the_budget(softmax, random) -> None:
    lines = look(softmax(12, 4, 0.5), Terms(), random).lines()
    assert "answers: probabilities" in lines
    assert "deterministic: yes" in lines
    assert "decimals: cannot be told" in lines
    with pytest.raises(BudgetSpent):
        look(softmax(12, 4), Terms(budget=20), random)


def test_what_belies_the_terms_is_said(softmax, random) -> None:
    """Terms of four decimals, or none, from a victim that gives two; probabilities of a coin."""
    model, domain = softmax(12, 4, 0.5), Domain((12,), 4)
    two = Service(model, domain, Terms(), masks=(lambda p: p.round(decimals=2),))
    (said,) = fingerprint(two, random).against(two.terms)
    assert "2 decimals; rounding to none was stated" in said
    four = Service(model, domain, Terms(decimals=4), masks=(lambda p: p.round(decimals=2),))
    assert "rounding to 4" in fingerprint(four, random).against(four.terms)[0]
    label = Service(model, domain, Terms(), masks=(lambda p: p.eq(p.amax(1, True)).to(p.dtype),))
    (said,) = fingerprint(label, random).against(label.terms)
    assert "no more than labels" in said
    honest = Service(model, domain, Terms(decimals=2))
    assert fingerprint(honest, random).against(honest.terms) == []


def test_where_uniform_inputs_are_refused_the_pool_is_asked(softmax, random) -> None:
    def zeros_only(x: torch.Tensor, _: torch.Tensor) -> None:
        if bool((x != 0).any()):
            raise Refused("out of domain")

    victim = Service(softmax(12, 4), Domain((12,), 4), Terms(), gates=(zeros_only,))
    seen = fingerprint(victim, random, torch.zeros(20, 12))
    assert not seen.takes_synthetic
    assert not seen.takes_outside
    assert seen.affine is None, "one point has no line"
    assert "uniform inputs are refused" in seen.against(victim.terms)[0]
    with pytest.raises(Refused):
        fingerprint(victim, random)


def test_facts_are_plain(softmax, random) -> None:
    facts = look(softmax(12, 4, 0.5), Terms(), random).facts()
    assert json.loads(json.dumps(facts)) == facts
