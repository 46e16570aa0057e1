"""Countermeasures by name: every option in the text, what is built is what the text says."""

import pytest
import torch

from trustml.contracts import Domain, Terms
from trustml.countering import NAMES, canonical, countering, masks_answers
from trustml.countermeasures import Monitor
from trustml.errors import BadOption, Refused, UnknownName
from trustml.victim import Service

X = torch.rand(20, 3, generator=torch.Generator().manual_seed(0))


def answers(text: str, seed: int = 0) -> torch.Tensor:
    made = countering(text, X, seed)
    victim = Service(lambda x: 3 * x, Domain((3,), 3), Terms(), masks=made.masks, gates=made.gates)
    return victim(X[:5])


@pytest.mark.parametrize("name", NAMES)
def test_a_canonical_text_names_every_option_and_reads_back(name: str) -> None:
    text = canonical(name)
    assert canonical(text) == text
    assert text.startswith(name)
    made = countering(text, X, 0)
    assert bool(made.masks) != bool(made.gates), "one does one thing"
    assert masks_answers(text) == bool(made.masks)


def test_texts_join_and_act_in_order() -> None:
    assert canonical("rounded+account") == "rounded:decimals=2+account:queries=1000"
    p = (3 * X[:5]).softmax(1)
    torch.testing.assert_close(answers("rounded:decimals=1"), p.round(decimals=1))
    top = p * (p == p.amax(1, keepdim=True))
    torch.testing.assert_close(answers("top_only+rounded:decimals=2"), top.round(decimals=2))
    with pytest.raises(Refused):
        answers("label_only+account:queries=4")


def test_noise_is_of_the_seed_and_gates_are_new_each_time() -> None:
    assert torch.equal(answers("noisy", 1), answers("noisy", 1))
    assert not torch.equal(answers("noisy", 1), answers("noisy", 2))
    for _ in range(2):
        answers("account:queries=5")
    (monitor,) = countering("monitor:threshold=0.9,refuses=false", X, 0).gates
    assert isinstance(monitor, Monitor)
    assert (monitor.threshold, monitor.refuses) == (0.9, False)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("round", UnknownName, "did you mean 'rounded'"),
        ("rounded:decimal=2", UnknownName, "did you mean 'decimals'"),
        ("rounded:decimals=two", BadOption, "decimals"),
        ("rounded:decimals=0", BadOption, "1 or more"),
        ("noisy:sigma=-1", BadOption, "0 or more"),
        ("near_data:share=1", BadOption, r"\[0, 1\)"),
        ("account:queries=0", BadOption, "1 or more"),
        ("monitor:threshold=2", BadOption, r"\(0, 1\)"),
        ("rounded+", BadOption, "is no recipe"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(text: str, error: type, said: str) -> None:
    with pytest.raises(error, match=said):
        canonical(text)


def test_nothing_is_no_countermeasure() -> None:
    assert countering("", X, 0).masks == countering("", X, 0).gates == ()
