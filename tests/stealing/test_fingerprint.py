"""Forty queries tell of a victim what is true of it."""

import pytest
import torch
from torch import nn

from trustml.contracts import Access, Domain, Terms
from trustml.errors import BudgetSpent
from trustml.stealing._fingerprint import Fingerprint, fingerprint
from trustml.victim import Service


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
        assert (seen.affine, seen.bends) == (True, 0)


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


def test_bends_tell_a_relu_network_from_a_smooth_one(random) -> None:
    """A line through 3 ReLUs bends at 3 places at most, so at 6 stations; a tanh one everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first, last = nn.Linear(12, 3), nn.Linear(3, 4)
    relu, tanh = nn.Sequential(first, nn.ReLU(), last), nn.Sequential(first, nn.Tanh(), last)
    terms = Terms(Access.LOGITS, precision="float64")
    with torch.no_grad():
        first.weight -= first.weight.mean(1, keepdim=True)
        first.bias.zero_()
    seen = look(relu, terms, random)
    assert seen.bends is not None
    assert 1 <= seen.bends <= 6
    assert (seen.affine, seen.piecewise_affine, seen.methods[0]) == (False, True, "relu_exact")
    seen = look(tanh, terms, random)
    assert (seen.affine, seen.piecewise_affine, seen.bends) == (False, False, 20)
    assert seen.methods == ("active", "knockoff")


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
