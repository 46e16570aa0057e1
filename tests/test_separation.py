"""Separation scores: six points by hand, scikit-learn, planted cases, coverage by simulation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from trustml import separation
from trustml.errors import BadInput
from trustml.separation import (
    augrc,
    aurc,
    auroc,
    average_precision,
    excess_aurc,
    failure_scores,
    false_positive_rate,
    outside_scores,
)

# Suspicions; in order, the most suspicious first: odd 6, ordinary 5, odd 4, ordinary 3, ordinary 2,
# odd 1.
ORDINARY, ODD = torch.tensor([2.0, 3, 5]), torch.tensor([1.0, 4, 6])


def drawn(ordinary: int, odd: int, shift: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(ordinary, generator=generator)
    return a, torch.randn(odd, generator=generator) + shift


def test_six_points_by_hand() -> None:
    """Pairs won by the odd: 6 beats 3, 4 beats 2, 1 beats 0 of the 3 ordinary: 5 of 9.

    AP, odd positive: precision at the odd ones 1/1, 2/3, 3/6. Ordinary positive, from the least
    suspicious (odd, ordinary, ordinary, odd, ordinary, odd): 1/2, 2/3, 3/5.
    95 % of three is all three: flagging down to 1 flags all ordinary; accepting up to 5 accepts
    1 and 4 of the odd, not 6.
    """
    assert auroc(ORDINARY, ODD).value == pytest.approx(5 / 9)
    assert average_precision(ORDINARY, ODD, positive="odd").value == pytest.approx(13 / 18)
    assert average_precision(ORDINARY, ODD, positive="ordinary").value == pytest.approx(53 / 90)
    assert false_positive_rate(ORDINARY, ODD, positive="odd").value == 1
    assert false_positive_rate(ORDINARY, ODD, positive="ordinary").value == pytest.approx(2 / 3)
    # Two of three odd ones are caught at 4: 5 is flagged. Two of three ordinary are kept up to 3.
    assert false_positive_rate(ORDINARY, ODD, positive="odd", at=0.6).value == pytest.approx(1 / 3)
    kept = false_positive_rate(ORDINARY, ODD, positive="ordinary", at=0.6)
    assert kept.value == pytest.approx(1 / 3)


def test_six_points_with_ties_by_hand() -> None:
    """Suspicions 1, 2, 2 (ordinary) and 2, 3, 3 (odd): of 9 pairs 7 are won and 2 tied.

    Odd positive: the group at 3 gives recall 2/3 at precision 1, the group at 2 the rest at 3/5.
    """
    ordinary, odd = torch.tensor([1.0, 2, 2]), torch.tensor([2.0, 3, 3])
    assert auroc(ordinary, odd).value == pytest.approx(8 / 9)
    precision = average_precision(ordinary, odd, positive="odd").value
    assert precision == pytest.approx(2 / 3 + 1 / 3 * 3 / 5)
    assert false_positive_rate(ordinary, odd, positive="odd").value == pytest.approx(2 / 3)
    assert false_positive_rate(ordinary, odd, positive="ordinary").value == pytest.approx(1 / 3)


def test_risk_of_six_points_by_hand() -> None:
    """From the least suspicious: wrong, right, right, wrong, right, wrong.

    Error rates of the first i: 1, 1/2, 1/3, 2/4, 2/5, 3/6. The best order: 0, 0, 0, 1/4, 2/5, 3/6.
    Joint: errors among the first i over 6 are 0 | 1 1 1 2 2 3, trapezoids 0.5+1+1+1.5+2+2.5 of 36.
    """
    suspicion, wrong = torch.tensor([1.0, 2, 3, 4, 5, 6]), torch.tensor([1, 0, 0, 1, 0, 1]).bool()
    area = (1 + 1 / 2 + 1 / 3 + 1 / 2 + 2 / 5 + 1 / 2) / 6
    assert aurc(suspicion, wrong).value == pytest.approx(area)
    assert excess_aurc(suspicion, wrong).value == pytest.approx(area - (1 / 4 + 2 / 5 + 1 / 2) / 6)
    assert augrc(suspicion, wrong).value == pytest.approx(8.5 / 36)


def test_risk_of_ties_is_the_mean_over_all_orders() -> None:
    """Every order of the tied samples, one by one; 5 tied samples have 120."""
    from itertools import permutations

    suspicion = torch.tensor([0.0, 1, 1, 1, 1, 1, 2])
    wrong = torch.tensor([0, 1, 0, 0, 1, 0, 1]).bool()
    areas, joint = [], []
    for order in permutations(range(1, 6)):
        errors = wrong[torch.tensor([0, *order, 6])].double().cumsum(0)
        areas.append(float((errors / torch.arange(1, 8)).mean()))
        whole = torch.cat([torch.zeros(1), errors]) / 7
        joint.append(float(torch.trapezoid(whole, dx=1 / 7)))
    assert aurc(suspicion, wrong).value == pytest.approx(np.mean(areas))
    assert augrc(suspicion, wrong).value == pytest.approx(np.mean(joint))


@given(st.data())
def test_values_are_those_of_scikit_learn_with_ties(data: st.DataObject) -> None:
    """Few different suspicions, so that most samples are tied with others."""
    steps = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=40)
    ordinary, odd = torch.tensor(data.draw(steps)), torch.tensor(data.draw(steps))
    y = np.repeat([0, 1], [len(ordinary), len(odd)])
    suspicion = torch.cat([ordinary, odd]).numpy()
    scores = outside_scores(ordinary, odd).scores
    assert scores["auroc"].value == pytest.approx(roc_auc_score(y, suspicion))
    assert scores["aupr_out"].value == pytest.approx(average_precision_score(y, suspicion))
    assert scores["aupr_in"].value == pytest.approx(average_precision_score(1 - y, -suspicion))
    for name, truth, ranking in (("out", y, suspicion), ("in", 1 - y, -suspicion)):
        fpr, tpr, _ = roc_curve(truth, ranking, drop_intermediate=False)
        wanted = fpr[np.argmax(tpr >= 0.95 - 1e-9)]
        assert scores[f"fpr95_positive_{name}"].value == pytest.approx(wanted)
    for name, score in scores.items():
        assert 0 <= score.low <= score.value <= score.high <= 1, name


def test_perfect_inverted_and_constant() -> None:
    """Planted: the interval of a perfect score of 20 still leaves room below."""
    low, high = torch.zeros(20), torch.ones(20)
    perfect, inverted = outside_scores(low, high).scores, outside_scores(high, low).scores
    assert [perfect[name].value for name in perfect] == [1, 1, 1, 0, 0]
    assert inverted["auroc"].value == 0
    assert inverted["aupr_out"].value == inverted["aupr_in"].value == 0.5
    assert inverted["fpr95_positive_in"].value == inverted["fpr95_positive_out"].value == 1
    # All of 20 independent pairs won: the Beta(21, 1) posterior's 5 % quantile.
    assert perfect["auroc"].low == pytest.approx(0.05 ** (1 / 21))
    assert perfect["aupr_out"].low < 0.9
    assert perfect["fpr95_positive_in"].high == pytest.approx(1 - 0.05 ** (1 / 21))
    constant = outside_scores(low, low)
    assert constant.scores["auroc"].value == 0.5
    assert constant.scores["aupr_out"].value == 0.5  # the base rate
    assert "same suspicion" in constant.notes[-1]
    assert not outside_scores(low, high).notes


def test_few_samples_that_agree_by_chance_know_little() -> None:
    """Two outsiders side by side: their spread says 0, and DeLong's interval is a tenth wide.

    As many independent pairs as there are outsiders: Beta(1 + 2 · 0.9, 1 + 2 · 0.1).
    """
    inside, outside = torch.arange(100).double(), torch.tensor([89.5, 89.6])
    found = outside_scores(inside, outside)
    score = found.scores["auroc"]
    assert score.value == pytest.approx(0.9)
    assert score.low == pytest.approx(stats.beta(2.8, 1.2).ppf(0.025))
    assert score.high <= 1
    assert found.notes == ("too few samples to tell much (outside: 2)",)
    wrong = failure_scores(torch.arange(30).double(), torch.arange(30) > 26)
    assert wrong.notes == ("too few samples to tell much (wrong answers: 3)",)


def test_one_sample_a_side_knows_next_to_nothing() -> None:
    scores = outside_scores(torch.zeros(1), torch.ones(1)).scores
    assert scores["auroc"].value == 1
    assert scores["auroc"].low == pytest.approx(0.05**0.5)  # Beta(2, 1)
    assert scores["fpr95_positive_in"].high > 0.7


def test_the_two_fpr95_differ_and_turn_into_each_other_with_the_sides() -> None:
    """Half of the outside is far out, half amid the inside: the conventions disagree."""
    inside = torch.linspace(0, 1, 100)
    outside = torch.cat([torch.linspace(0, 1, 50), torch.full((50,), 9.0)])
    scores = outside_scores(inside, outside).scores
    assert scores["fpr95_positive_in"].value == pytest.approx(0.47, abs=0.02)
    # 95 of the 100 are caught down to the sixth least, 5/49; 11 inside points lie below it.
    assert scores["fpr95_positive_out"].value == pytest.approx(0.89)
    turned = outside_scores(-outside, -inside).scores
    assert turned["fpr95_positive_out"].value == scores["fpr95_positive_in"].value
    assert turned["aupr_in"].value == pytest.approx(scores["aupr_out"].value)


def test_exactly_95_percent_is_enough() -> None:
    """57 of 60 are 95 %; a product rounded up in floating point would ask for 58."""
    for count in (20, 40, 60, 100, 140, 1000):
        ordinary = torch.arange(float(count))
        just_out = torch.tensor([count * 0.95 - 0.5])
        assert false_positive_rate(ordinary, just_out, positive="ordinary").value == 0
        assert false_positive_rate(ordinary, just_out - 1, positive="ordinary").value == 1
    assert 0.55 * 100 > 55
    ordinary = torch.arange(100.0)
    assert false_positive_rate(ordinary, ordinary[55:56], positive="ordinary", at=0.55).value == 0


def test_augrc_is_its_closed_form() -> None:
    """(1 - AUROC) · accuracy · error rate + error rate² / 2, Traub et al. 2024."""
    right, wrong = drawn(180, 20, 1.0)
    suspicion = torch.cat([right, wrong])
    is_wrong = torch.arange(200) >= 180
    expected = (1 - auroc(right, wrong).value) * 0.9 * 0.1 + 0.1**2 / 2
    assert augrc(suspicion, is_wrong).value == pytest.approx(expected)


def test_a_blind_suspicion_risks_the_error_rate_at_every_coverage() -> None:
    wrong = torch.arange(50) < 10
    constant = torch.zeros(50)
    assert aurc(constant, wrong).value == pytest.approx(0.2)
    assert augrc(constant, wrong).value == pytest.approx(0.1)
    best = torch.where(wrong, 1.0, 0.0)
    assert excess_aurc(best, wrong).value == pytest.approx(0, abs=1e-12)


def test_no_error_seen_leaves_room_for_some() -> None:
    """Among 20 right answers the error rate may still be 1 - 0.05^(1/20) or so."""
    score = aurc(torch.rand(20), torch.zeros(20).bool())
    assert score.value == 0
    assert 0.1 < score.high < 0.5
    assert aurc(torch.rand(20), torch.ones(20).bool()).value == 1


def test_failure_scores_name_both_classes() -> None:
    right, wrong = drawn(300, 60, 1.5)
    suspicion, is_wrong = torch.cat([right, wrong]), torch.arange(360) >= 300
    found = failure_scores(suspicion, is_wrong)
    outside = outside_scores(right, wrong).scores
    assert found.scores["aupr_error"].value == outside["aupr_out"].value
    assert found.scores["fpr95_positive_success"].value == outside["fpr95_positive_in"].value
    assert set(found.scores) | set(outside) == set(separation.MEANING)
    assert found.odd_share == pytest.approx(60 / 360)
    assert all(score.low <= score.value <= score.high for score in found.scores.values())


def test_delong_covers_the_true_auroc() -> None:
    """Two normals one apart: Φ(1/√2). 95 % of 400 trials is 380 ± 8.7 at two deviations."""
    true = 0.5 * (1 + math.erf(0.5))
    trials = [auroc(*drawn(60, 40, 1.0, seed)) for seed in range(400)]
    assert 366 <= sum(score.low <= true <= score.high for score in trials) <= 396


def test_the_bootstrap_covers_the_true_values() -> None:
    """True values from a million samples; 90 of 100 trials is more than two deviations below 95."""
    many = drawn(500_000, 500_000, 1.0, 99)
    y = np.repeat([0, 1], 500_000)
    true_ap = average_precision_score(y, torch.cat(many).numpy())
    true_fpr = 0.5 * (1 + math.erf((1.6449 - 1) / 2**0.5))  # Φ(1.645 - 1) of the odd is accepted
    covered = {"aupr_out": 0, "fpr95_positive_in": 0}
    for seed in range(100):
        scores = outside_scores(*drawn(150, 150, 1.0, seed)).scores
        for name, true in (("aupr_out", true_ap), ("fpr95_positive_in", true_fpr)):
            covered[name] += scores[name].low <= true <= scores[name].high
    assert min(covered.values()) >= 88, covered


def test_the_same_samples_in_any_order_have_the_same_scores() -> None:
    ordinary, odd = drawn(70, 50, 0.7)
    assert outside_scores(ordinary, odd) == outside_scores(ordinary.flip(0), odd.flip(0))


@pytest.mark.parametrize(
    ("ordinary", "odd", "message"),
    [
        (torch.zeros(0), torch.ones(2), "no inside sample"),
        (torch.zeros(2), torch.ones(0), "no outside sample"),
        (torch.zeros(2), torch.tensor([1.0, math.nan]), r"NaN among .* outside samples .1 of 2"),
        (torch.zeros(2, 1), torch.ones(2), r"give \(B,\)"),
    ],
)
def test_what_cannot_be_ranked_is_refused(ordinary: Tensor, odd: Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        outside_scores(ordinary, odd)


def test_failures_need_both_right_and_wrong_answers() -> None:
    with pytest.raises(BadInput, match="all 5 answers are right"):
        failure_scores(torch.rand(5), torch.zeros(5).bool())
    with pytest.raises(BadInput, match="all 5 answers are wrong"):
        failure_scores(torch.rand(5), torch.ones(5).bool())
    with pytest.raises(BadInput, match="do not fit"):
        failure_scores(torch.rand(5), torch.ones(4).bool())
    with pytest.raises(BadInput, match=r"at=1\.5"):
        false_positive_rate(ORDINARY, ODD, positive="odd", at=1.5)


def test_infinite_suspicions_have_their_place() -> None:
    odd = torch.tensor([math.inf, 2.0])
    assert auroc(torch.tensor([-math.inf, 3.0]), odd).value == pytest.approx(3 / 4)
