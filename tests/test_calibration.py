"""Calibration: torchmetrics and scikit-learn, hand-made bins, planted miscalibration."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor

from trustml.calibration import (
    calibration_scores,
    fitted_temperature,
    isotonic_scaling,
    platt_scaling,
    reliability,
    temperature_scaling,
)
from trustml.errors import BadInput, BadOption


def answers(count: int, temperature: float = 1.0, classes: int = 4, seed: int = 0):
    """Return logits whose softmax at `temperature` is exactly how the labels were drawn."""
    generator = torch.Generator().manual_seed(seed)
    z = 2 * torch.randn(count, classes, generator=generator)
    y = torch.multinomial(z.softmax(1), 1, generator=generator)[:, 0]
    return z * temperature, y


def stated(confidences: list[float], right: list[int]) -> tuple[Tensor, Tensor]:
    """Return log probabilities of two classes with the given confidence in class 0."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p, 1 - p], 1).log(), 1 - torch.tensor(right)


def test_ece_by_hand() -> None:
    """Five bins. (0.6, 0.8]: 0.7 right, 0.8 wrong; (0.8, 1]: 0.9 right, 1.0 right.

    Gaps: |0.75 - 0.5| and |0.95 - 1|, half of the samples each.
    """
    logits, y = stated([0.7, 0.8, 0.9, 1.0], [1, 0, 1, 1])
    score = calibration_scores(logits, y, bins=5)["ece"]
    assert score.value == pytest.approx(0.5 * 0.25 + 0.5 * 0.05)


def test_a_confidence_of_exactly_one_is_in_the_last_bin() -> None:
    """Certain and wrong, 0.97 and right: in one bin the gap is |0.985 - 0.5|.

    Torchmetrics 1.9 puts the former into a bin of its own, beyond the last: (1 + 0.03) / 2.
    """
    logits, y = stated([1.0, 0.97], [0, 1])
    assert calibration_scores(logits, y, bins=15)["ece"].value == pytest.approx(0.485)
    assert reliability(logits, y).counts.tolist() == [0] * 14 + [2]
    from torchmetrics.functional.classification import multiclass_calibration_error

    theirs = multiclass_calibration_error(logits.exp(), y, num_classes=2, n_bins=15, norm="l1")
    assert float(theirs) in (pytest.approx(0.515), pytest.approx(0.485))  # if they mend it


def test_ece_is_that_of_torchmetrics_away_from_the_edges() -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, y = answers(400, temperature=2)
    for bins in (5, 15):
        theirs = multiclass_calibration_error(
            logits.double().softmax(1), y, num_classes=4, n_bins=bins, norm="l1"
        )
        mine = calibration_scores(logits, y, bins=bins)["ece"].value
        assert mine == pytest.approx(float(theirs), abs=1e-6)


def test_adaptive_bins_hold_equally_many_and_never_part_equal_confidences() -> None:
    logits, y = answers(400, temperature=2)
    assert reliability(logits, y, bins=8, equal="mass").counts.tolist() == [50] * 8
    tied, y = stated([0.6] * 5 + [0.9] * 3, [1, 0, 1, 1, 0, 1, 1, 0])
    counts = reliability(tied, y, bins=4, equal="mass").counts
    assert sorted(counts[counts > 0].tolist()) == [3, 5]
    # |0.6 - 3/5| · 5/8 + |0.9 - 2/3| · 3/8, in whatever order the tied ones come.
    for order in (slice(None), torch.arange(7, -1, -1)):
        score = calibration_scores(tied[order], y[order], bins=4)["adaptive_ece"]
        assert score.value == pytest.approx((0.9 - 2 / 3) * 3 / 8)


def test_brier_and_nll_are_those_of_scikit_learn() -> None:
    logits, y = answers(300)
    p = logits.double().softmax(1).numpy()
    scores = calibration_scores(logits, y)
    assert scores["nll"].value == pytest.approx(log_loss(y, p, labels=range(4)))
    two, label = logits[:, :2], y.clamp(max=1)
    half = brier_score_loss(label, two.double().softmax(1)[:, 1])
    assert calibration_scores(two, label)["brier"].value == pytest.approx(2 * half)
    onehot = np.eye(4)[y]
    assert scores["brier"].value == pytest.approx(((p - onehot) ** 2).sum(1).mean())


def test_planted_overconfidence_is_found_and_its_size_is_in_the_interval() -> None:
    """The interval of the honest model reaches nearly to 0, though no finite sample's ECE is 0."""
    honest = calibration_scores(*answers(2000))
    loud = calibration_scores(*answers(2000, temperature=3))
    for name in ("ece", "adaptive_ece"):
        assert honest[name].low < 0.01 < honest[name].value < 0.04
        assert loud[name].low > 0.05
    assert loud["nll"].low > honest["nll"].high
    assert all(s.low <= s.value <= s.high for s in (*honest.values(), *loud.values()))


def test_means_cover_their_true_value() -> None:
    """Of 100 intervals of the NLL at least 88 hold the truth; 95 less three deviations is 88."""
    true = calibration_scores(*answers(200_000, seed=77))["nll"].value
    scores = [calibration_scores(*answers(200, seed=seed))["nll"] for seed in range(100)]
    assert sum(score.low <= true <= score.high for score in scores) >= 88


def test_one_sample_and_certain_errors() -> None:
    """One sample, sure and wrong: every error is as great as it can be."""
    scores = calibration_scores(torch.tensor([[0.0, -math.inf]]), torch.tensor([1]))
    assert scores["ece"].value == scores["adaptive_ece"].value == 1
    assert scores["brier"].value == 2
    assert scores["nll"].value == math.inf


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_temperature_finds_the_one_that_the_labels_were_drawn_with(temperature: float) -> None:
    logits, y = answers(20_000, temperature)
    assert fitted_temperature(logits, y) == pytest.approx(temperature, rel=0.03)
    scaled = temperature_scaling(logits, y)(logits)
    assert torch.equal(scaled.argmax(1), logits.argmax(1))
    assert calibration_scores(scaled, y)["ece"].value < 0.02


def test_temperature_is_the_best_of_a_fine_grid() -> None:
    logits, y = answers(200, 1.7)
    grid = torch.linspace(0.5, 4, 3501, dtype=torch.float64)
    losses = [float(torch.nn.functional.cross_entropy(logits.double() / t, y)) for t in grid]
    assert fitted_temperature(logits, y) == pytest.approx(float(grid[np.argmin(losses)]), abs=1e-3)


def test_temperature_of_faultless_answers_is_the_least() -> None:
    logits = 5 * torch.eye(3)
    assert fitted_temperature(logits, torch.arange(3)) == pytest.approx(0.05)


def test_platt_is_the_best_curve_by_another_optimizer() -> None:
    """Platt's own loss, on log odds with his targets, by Nelder-Mead for each class."""
    logits, y = answers(600, 3.0)
    p = logits.double().softmax(1).numpy()
    odds, columns = np.log(p / (1 - p)), []
    for k in range(4):
        mine = (y == k).numpy()
        up, down = (mine.sum() + 1) / (mine.sum() + 2), 1 / ((~mine).sum() + 2)
        target = np.where(mine, up, down)

        def loss(curve: np.ndarray, f=odds[:, k], target=target) -> float:
            q = expit(curve[0] * f + curve[1])
            return -float((target * np.log(q) + (1 - target) * np.log1p(-q)).sum())

        best = minimize(loss, [0.3, 0.0], method="Nelder-Mead", options={"fatol": 1e-12}).x
        columns.append(expit(best[0] * odds[:, k] + best[1]))
    wanted = np.stack(columns, 1) / np.sum(columns, 0)[:, None]
    found = platt_scaling(logits, y)(logits)
    assert np.abs(found.exp().numpy() - wanted).max() < 1e-4
    before, after = (calibration_scores(z, y)["ece"].value for z in (logits, found))
    assert after < 0.5 * before


def test_isotonic_is_scikit_learns_curve_and_mends_the_ece() -> None:
    from sklearn.isotonic import IsotonicRegression

    logits, y = answers(1000, 3.0)
    p = logits.double().softmax(1).numpy()
    columns = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        .fit(p[:, k], y.numpy() == k)
        .predict(p[:, k])
        for k in range(4)
    ]
    wanted = np.maximum(np.stack(columns, 1), 1 / 1002)
    wanted /= wanted.sum(1, keepdims=True)
    mine = isotonic_scaling(logits, y)(logits)
    assert torch.allclose(mine.exp(), torch.from_numpy(wanted).float(), atol=1e-6)
    assert (
        calibration_scores(mine, y)["ece"].value < 0.5 * calibration_scores(logits, y)["ece"].value
    )
    assert math.isfinite(calibration_scores(mine, y)["nll"].value)


def test_separable_answers_do_not_make_platts_curve_a_wall() -> None:
    logits = 9 * torch.eye(2)[torch.arange(40) % 2]
    mended = platt_scaling(logits, torch.arange(40) % 2)(logits).exp()
    assert 0.9 < float(mended.max()) < 0.99  # 21/22 is what 20 of 20 allow


@pytest.mark.parametrize(
    ("logits", "y", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0).long(), "no rows"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"0\.\.2"),
        (torch.full((2, 3), math.nan), torch.tensor([0, 1]), "NaN"),
        (torch.zeros(2, 3), torch.tensor([0]), "do not fit"),
    ],
)
def test_what_is_no_answer_is_refused(logits: Tensor, y: Tensor, message: str) -> None:
    for function in (calibration_scores, reliability, fitted_temperature, platt_scaling):
        with pytest.raises(BadInput, match=message):
            function(logits, y)


def test_maps_of_each_class_need_each_class() -> None:
    for function in (platt_scaling, isotonic_scaling):
        with pytest.raises(BadInput, match=r"none of \[2\]"):
            function(torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 0]))
    with pytest.raises(BadOption, match="bins=0"):
        calibration_scores(*answers(9), bins=0)
