"""Scores of logits: hand-worked values, scipy, and what must be equal by definition."""

import math
from dataclasses import replace

import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from trustml.contracts import Outputs
from trustml.detectors.energy import energy
from trustml.detectors.entropy import entropy
from trustml.detectors.kl_matching import kl_matching
from trustml.detectors.margin import margin
from trustml.detectors.max_logit import max_logit
from trustml.detectors.mcp import mcp
from trustml.errors import BadOption, NotApplicable

# Probabilities 1/2, 1/4, 1/8, 1/8.
LOGITS = torch.tensor([[math.log(4), math.log(2), 0.0, 0.0]])


def of(logits: Tensor) -> Outputs:
    rows = len(logits)
    return Outputs(logits, torch.ones(rows, 2), torch.ones(rows, 2), torch.zeros(rows).long())


def test_hand_worked_values(model, made) -> None:
    """P = (1/2, 1/4, 1/8, 1/8): log Σ exp z = log 8, entropy = 1.75 bits."""
    train = made()
    expected = {
        mcp: 0.5,
        margin: 1 - 0.25,
        max_logit: -math.log(4),
        energy: -math.log(8),
        entropy: 1.75 * math.log(2),
    }
    for method, value in expected.items():
        assert float(method(model, train, train)(of(LOGITS))) == pytest.approx(value, rel=1e-6)
    logit_margin = margin(model, train, train, between="logits")(of(LOGITS))
    assert float(logit_margin) == pytest.approx(-math.log(2), rel=1e-6)


def test_against_scipy(model, made) -> None:
    train, test = made(), made(50, seed=2)
    logits = test.logits.double().numpy()
    p = scipy.special.softmax(logits, axis=1)
    close = {"rtol": 1e-10, "atol": 1e-12}
    score = entropy(model, train, train)(test)
    assert torch.allclose(score, torch.tensor(scipy.stats.entropy(p, axis=1)), **close)
    score = energy(model, train, train, temperature=2.5)(test)
    expected = -2.5 * torch.tensor(scipy.special.logsumexp(logits / 2.5, axis=1))
    assert torch.allclose(score, expected, **close)
    assert torch.allclose(mcp(model, train, train)(test), torch.tensor(1 - p.max(1)), **close)


def test_sure_answers_stay_apart(model, made) -> None:
    """In float32, 1 - softmax is 0 for both; the true values are near exp(-20) and exp(-40)."""
    train = made()
    score = mcp(model, train, train)(of(torch.tensor([[20.0, 0.0], [40.0, 0.0]])))
    assert torch.allclose(score, torch.tensor([-20.0, -40.0]).double().exp(), rtol=1e-6, atol=0)
    # 1 - (p₁ - p₂) is twice that where there are two classes.
    apart = margin(model, train, train)(of(torch.tensor([[20.0, 0.0], [40.0, 0.0]])))
    assert torch.allclose(apart, 2 * score, rtol=1e-6, atol=0)


def test_a_shift_of_all_logits_changes_only_scores_of_logits(model, made) -> None:
    """Softmax does not see a common shift s; energy and max logit fall by just s."""
    train, test = made(), made(20, seed=2)
    moved = replace(test, logits=test.logits + 3)
    for method in (mcp, entropy, margin, kl_matching):
        scorer = method(model, train, train)
        assert torch.allclose(scorer(test), scorer(moved), atol=1e-5)
    for method in (energy, max_logit):
        scorer = method(model, train, train)
        assert torch.allclose(scorer(test) - 3, scorer(moved), atol=1e-5)


def test_kl_matching_by_hand(model, made) -> None:
    """Templates (.8, .2) of two answers and (.3, .7) of one; KL to the nearer one."""
    known = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7]]).log()
    scorer = kl_matching(model, made(), of(known))
    p = torch.tensor([0.6, 0.4]).double()
    templates = torch.tensor([[0.8, 0.2], [0.3, 0.7]]).double()
    expected = (p * (p / templates).log()).sum(1).min()
    assert float(scorer(of(p.log().float()[None]))) == pytest.approx(float(expected), rel=1e-5)
    assert float(scorer(of(templates[:1].log().float()))) == pytest.approx(0, abs=1e-7)


def test_energy_refuses_log_probabilities(model, made) -> None:
    """Their log Σ exp z is log 1 = 0: a score of rounding errors would rank nothing."""
    train = made()
    with pytest.raises(NotApplicable, match="log probabilities"):
        energy(model, replace(train, logits=train.logits.log_softmax(1)), train)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_energy_refuses_such_a_temperature(temperature: float, model, made) -> None:
    with pytest.raises(BadOption, match="temperature"):
        energy(model, made(), made(), temperature=temperature)
