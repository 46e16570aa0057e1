"""Conformal sets: thresholds by hand, coverage by simulation, exact laws of order statistics."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from trustml.conformal import (
    adaptive_sets,
    conformal_quantile,
    conformal_scores,
    expected_share,
    split_conformal,
)
from trustml.errors import BadInput, BadOption


def answers(count: int, seed: int, temperature: float = 2.0) -> tuple[Tensor, Tensor]:
    """Return overconfident logits (their softmax is not how the labels were drawn) and labels."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(count, 5, generator=generator)
    y = torch.multinomial(z.softmax(1), 1, generator=generator)[:, 0]
    return z * temperature, y


@pytest.mark.parametrize(
    ("count", "miss", "place"),
    [(9, 0.1, 9), (19, 0.05, 19), (20, 0.05, 20), (99, 0.05, 95), (10, 0.5, 6), (100, 0.1, 91)],
)
def test_the_threshold_is_the_right_value_in_order(count: int, miss: float, place: int) -> None:
    """On 1 … n shuffled, the ceil((n + 1)(1 - miss))-th is that number itself."""
    values = torch.randperm(count) + 1.0
    assert conformal_quantile(values, miss) == place


def test_too_few_samples_let_everything_in() -> None:
    """With 8 samples no threshold promises 90 %: sets hold all classes, and say that they do."""
    assert conformal_quantile(torch.arange(8.0), 0.1) == math.inf
    logits, y = answers(8, 0)
    sets = split_conformal(logits, y)
    assert bool(sets(logits).all())
    assert sets.expected.value == 1


def test_expected_share_is_the_law_of_the_order_statistic() -> None:
    """Uniform values: what lies above the k-th of n is Beta(n + 1 - k, k); its mean ≤ miss."""
    score = expected_share(99, 0.05)
    assert score.value == pytest.approx(0.05)
    belief = stats.beta(5, 95)
    assert (score.low, score.high) == pytest.approx(tuple(belief.ppf([0.025, 0.975])))
    generator = torch.Generator().manual_seed(0)
    shares = [
        1 - conformal_quantile(torch.rand(99, generator=generator), 0.05) for _ in range(2000)
    ]
    assert np.mean(shares) == pytest.approx(0.05, abs=0.002)  # 4 standard errors
    inside = np.mean([(score.low <= share <= score.high) for share in shares])
    assert inside == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("fit", [split_conformal, adaptive_sets])
def test_coverage_holds_on_average_over_fits_and_is_not_overdone(fit) -> None:
    """1 - miss ≤ E[coverage] ≤ 1 - miss + 1/(n + 1), whatever the model; 4 standard errors."""
    covered = []
    for seed in range(150):
        z, y = answers(199 + 400, seed)
        sets = fit(z[:199], y[:199], miss=0.1, never_empty=False)
        covered.append(conformal_scores(sets(z[199:]), y[199:])["coverage"].value)
    error = 4 * np.std(covered) / math.sqrt(150)
    assert 0.9 - error <= np.mean(covered) <= 0.905 + error


def test_sets_by_hand() -> None:
    """Probabilities of the truth 0.5, 0.7, 0.9, …: the threshold is the greatest 1 - p."""
    p = torch.tensor([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.9, 0.06, 0.04]])
    sets = split_conformal(p.log(), torch.zeros(3).long(), miss=0.25)  # the 3rd of 3: 0.5
    assert sets.threshold == pytest.approx(0.5)
    asked = torch.tensor([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25]]).log()
    assert sets(asked).tolist() == [[True, False, False], [True, False, False]]
    bare = split_conformal(p.log(), torch.zeros(3).long(), miss=0.25, never_empty=False)
    assert bare(asked).tolist() == [[True, False, False], [False, False, False]]
    # Masses down to the truth: 0.5, 0.9 (class 1 after 0.7), 1.0 (class 2): miss ½ takes the 2nd.
    adaptive = adaptive_sets(p.log(), torch.tensor([0, 1, 2]), miss=0.5)
    assert adaptive.threshold == pytest.approx(0.9)
    given = torch.tensor([[0.6, 0.25, 0.15], [0.95, 0.03, 0.02]])
    assert adaptive(given.log()).tolist() == [[True, True, False], [True, False, False]]


def test_adaptive_sets_grow_where_the_model_is_unsure() -> None:
    z, y = answers(500, 1, temperature=1.0)
    sizes = adaptive_sets(z, y)(z).sum(1).double()
    unsure = z.softmax(1).amax(1) < 0.5
    assert sizes[unsure].mean() > sizes[~unsure].mean() + 0.5


def test_sets_follow_a_renaming_of_the_classes_and_the_batch_does_not_matter() -> None:
    z, y = answers(100, 2)
    order = torch.tensor([3, 1, 4, 0, 2])
    for fit in (split_conformal, adaptive_sets):
        sets, renamed = fit(z, y)(z), fit(z[:, order], order.argsort()[y])(z[:, order])
        assert torch.equal(sets[:, order], renamed)
        alone = torch.cat([fit(z, y)(row[None]) for row in z])
        assert torch.equal(alone, sets)


def test_scores_of_sets_by_hand() -> None:
    sets = torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0]]).bool()
    scores = conformal_scores(sets, torch.tensor([0, 0, 0, 1]))
    assert scores["coverage"].value == 0.5
    assert scores["worst_class_coverage"].value == 0
    assert scores["mean_size"].value == 1.25
    assert scores["singletons"].value == 0.75
    assert all(score.low <= score.value <= score.high for score in scores.values())


def test_bad_input_is_refused() -> None:
    z, y = answers(20, 3)
    for miss in (0.0, 1.0, math.nan):
        with pytest.raises(BadOption, match="between 0 and 1"):
            split_conformal(z, y, miss=miss)
    with pytest.raises(BadInput, match="NaN"):
        conformal_quantile(torch.tensor([math.nan]), 0.1)
    with pytest.raises(BadInput, match="at least 1"):
        conformal_quantile(torch.zeros(0), 0.1)
    with pytest.raises(BadInput, match="no rows"):
        adaptive_sets(z[:0], y[:0])
