"""Scores of draws: hand-worked values and identities."""

import math
from dataclasses import replace

import pytest
import torch

from trustml.contracts import Outputs
from trustml.detectors.disagreement import disagreement
from trustml.detectors.mutual_information import mutual_information
from trustml.detectors.predictive_entropy import predictive_entropy
from trustml.detectors.variation_ratio import variation_ratio
from trustml.errors import NotApplicable

METHODS = (variation_ratio, mutual_information, predictive_entropy, disagreement)


def of(*probabilities: tuple[float, ...]) -> Outputs:
    """Return outputs of one input with these draws."""
    draws = torch.tensor(probabilities).log()[:, None]
    row = torch.ones(1, 2)
    return Outputs(row, row, row, torch.zeros(1).long(), draws)


def value(method, outputs: Outputs, **options) -> float:
    return float(method(None, outputs, outputs, **options)(outputs))


def test_two_draws_that_contradict_each_other() -> None:
    """Mean (1/2, 1/2): entropy log 2; each draw has the entropy h of (0.9, 0.1)."""
    outputs = of((0.9, 0.1), (0.1, 0.9))
    h = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert value(predictive_entropy, outputs) == pytest.approx(math.log(2), rel=1e-6)
    assert value(mutual_information, outputs) == pytest.approx(math.log(2) - h, rel=1e-5)
    assert value(variation_ratio, outputs) == 0.5
    # KL((.9, .1) ‖ (.1, .9)) = .8 log 9, both ways.
    assert value(disagreement, outputs) == pytest.approx(0.8 * math.log(9), rel=1e-5)
    assert value(disagreement, outputs, measure="votes") == 1


def test_draws_that_agree() -> None:
    outputs = of((0.9, 0.1), (0.9, 0.1), (0.9, 0.1))
    for method in (variation_ratio, mutual_information, disagreement):
        assert value(method, outputs) == pytest.approx(0, abs=1e-12)


def test_the_mean_is_of_probabilities_not_of_logits() -> None:
    """Draws (0.9, 0.1) and (0.5, 0.5) have the mean (0.7, 0.3), not (0.75, 0.25)."""
    expected = -0.7 * math.log(0.7) - 0.3 * math.log(0.3)
    assert value(predictive_entropy, of((0.9, 0.1), (0.5, 0.5))) == pytest.approx(expected)


def test_votes() -> None:
    """3 against 1: the ratio is 1/4, and 3 of the 6 pairs differ."""
    outputs = of((0.9, 0.1), (0.8, 0.2), (0.6, 0.4), (0.2, 0.8))
    assert value(variation_ratio, outputs) == 0.25
    assert value(disagreement, outputs, measure="votes") == pytest.approx(0.5)


def test_pairs_one_by_one(made) -> None:
    """The divergence is the mean of KL over the S (S - 1) ordered pairs, summed here in a loop."""
    outputs = made(30)
    assert outputs.draws is not None
    logs = outputs.draws.double().log_softmax(2)
    pairs = [
        (logs[i].exp() * (logs[i] - logs[j])).sum(1) for i in range(5) for j in range(5) if i != j
    ]
    score = disagreement(None, outputs, outputs)(outputs)
    assert torch.allclose(score, torch.stack(pairs).mean(0))


def test_the_order_of_draws_does_not_matter(made) -> None:
    outputs = made(30)
    assert outputs.draws is not None
    turned = replace(outputs, draws=outputs.draws.flip(0))
    for method in METHODS:
        scorer = method(None, outputs, outputs)
        assert torch.allclose(scorer(outputs), scorer(turned), atol=1e-12)


def test_breaking_ties_changes_no_order_of_different_ratios(made) -> None:
    outputs = made(300)
    plain = variation_ratio(None, outputs, outputs)(outputs)
    broken = variation_ratio(None, outputs, outputs, break_ties=True)(outputs)
    assert len(plain.unique()) < len(broken.unique()) / 10
    assert float((broken - plain).min()) >= 0
    assert float((broken - plain).max()) < 1 / 5
    lower = plain[:, None] < plain
    assert bool((broken[:, None] < broken)[lower].all())


@pytest.mark.parametrize("method", METHODS)
def test_without_draws_it_says_so(method, made) -> None:
    outputs = replace(made(), draws=None)
    with pytest.raises(NotApplicable, match="draws of a Bayesian network"):
        method(None, outputs, outputs)(outputs)


def test_one_draw_has_no_spread(made) -> None:
    outputs = made()
    assert outputs.draws is not None
    single = replace(outputs, draws=outputs.draws[:1])
    predictive_entropy(None, single, single)(single)
    for method in (variation_ratio, mutual_information, disagreement):
        with pytest.raises(NotApplicable, match="2 or more draws"):
            method(None, single, single)(single)
