"""The scoring row against hand counts and scipy."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor

from trustml.benchmarks.route_scores import (
    before_alarm,
    exact,
    first_alarm,
    paired_change,
    scores_of,
)
from trustml.errors import NotApplicable


@given(st.integers(1, 400), st.data())
def test_the_exact_interval_is_scipys(count: int, data: Any) -> None:
    hits = data.draw(st.integers(0, count))
    score, known = exact(hits, count), binomtest(hits, count).proportion_ci(method="exact")
    assert score.value == hits / count
    assert score.low == pytest.approx(known.low, abs=1e-9)
    assert score.high == pytest.approx(known.high, abs=1e-9)


def flags(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_a_paired_change_by_hand() -> None:
    """10 samples, 3 lost, 1 won: -0.2; with half a sample more in each cell -2 / 12 ± z · 0.1795.

    (3.5 + 1.5 - 4 / 12) / 144 = 0.0324, whose root is 0.18002.
    """
    before = flags(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)
    after = flags(1, 1, 1, 0, 0, 0, 1, 0, 0, 0)
    score = paired_change(before, after)
    assert score.value == pytest.approx(-0.2)
    half = 1.959964 * math.sqrt(5 - 4 / 12) / 12
    assert score.low == pytest.approx(-2 / 12 - half, abs=1e-6)
    assert score.high == pytest.approx(-2 / 12 + half, abs=1e-6)


@pytest.mark.slow
def test_the_paired_interval_covers() -> None:
    """5 % of 200 samples are lost and 2 % won: 95 % of the intervals hold -0.03, or nearly."""
    draw, held = torch.Generator().manual_seed(0), 0
    for _ in range(1000):
        lot = torch.rand(200, generator=draw)
        before, after = lot > 0.02, (lot < 0.02) | (lot > 0.07)
        score = paired_change(before, after)
        held += score.low <= -0.03 <= score.high
    assert 930 <= held <= 980


def test_alarms_and_what_is_lost_before_them() -> None:
    """The first stream alarms at its second item, the other never; the alarm's item is sorted."""
    running = torch.tensor([[0.0, 2.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    alarm = first_alarm(running, 1.0)
    assert alarm.tolist() == [1, 4]
    misread = torch.ones(2, 4, dtype=torch.bool)
    right = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    assert before_alarm(misread, right, alarm).value == pytest.approx((2 / 4 + 1) / 2)


def mailed(**others: Tensor) -> dict[str, Tensor]:
    """Ten pieces: nine read rightly, six of them misread when tampered with, the gate stops two."""
    byte = torch.uint8
    return {
        "bare: right": torch.tensor([1] * 9 + [0], dtype=byte),
        "bare: static: misread": torch.tensor([1] * 6 + [0] * 3 + [1], dtype=byte),
        "clean: misread": torch.tensor([0] * 9 + [1], dtype=byte),
        "clean: accepted": torch.tensor([1] * 9 + [0], dtype=byte),
        "static: misread": torch.tensor([1] * 6 + [0] * 3 + [1], dtype=byte),
        "static: accepted": torch.tensor([0, 0] + [1] * 8, dtype=byte),
        **others,
    }


def test_clean_errors_are_no_successes_and_stopped_ones_neither() -> None:
    scores = scores_of(mailed(), 0.05)
    assert scores["success without"].value == pytest.approx(6 / 9)
    assert scores["success static"].value == pytest.approx(4 / 9)
    assert scores["success adaptive"].value == pytest.approx(4 / 9)
    assert scores["review per 1000"].value == pytest.approx(100)
    assert scores["clean accuracy change"].value == 0


def test_detection_is_of_the_misread_above_the_held_out_threshold() -> None:
    """99 clean doubts 1 to 99: at 5 % the threshold is 95, at 1 % 99; of six misread, two and one.

    What was read wrongly before is not counted.
    """
    doubts = torch.arange(1.0, 100.0).double()
    found = mailed(
        **{
            "validation: doubt": doubts,
            "clean: doubt": doubts[:10],
            "static: doubt": torch.tensor([97.0, 120, 90, 90, 90, 90, 99, 99, 99, 99]).double(),
        }
    )
    scores = scores_of(found, 0.05)
    assert scores["found static at 5 %"].value == pytest.approx(2 / 6)
    assert scores["found static at 1 %"].value == pytest.approx(1 / 6)
    assert scores["false alarms at 5 %"].value == 0


def test_a_trigger_counts_where_the_class_is_another_and_the_gate_lets_it_pass() -> None:
    byte = torch.uint8
    found = {
        "bare: right": torch.ones(4, dtype=byte),
        "clean: misread": torch.zeros(4, dtype=byte),
        "clean: accepted": torch.ones(4, dtype=byte),
        "poisoned: right": torch.ones(4, dtype=byte),
        "right": torch.ones(4, dtype=byte),
        "trigger: aimed": torch.tensor([0, 1, 1, 1], dtype=byte),
        "bare trigger: hit": torch.tensor([1, 1, 1, 1], dtype=byte),
        "trigger: hit": torch.tensor([1, 1, 1, 0], dtype=byte),
        "trigger: accepted": torch.tensor([1, 1, 0, 1], dtype=byte),
        "touched": torch.tensor([3, 4, 10, 100]),
    }
    scores = scores_of(found, 0.05)
    assert scores["success without"].value == 1
    assert scores["success static"].value == pytest.approx(1 / 3)
    assert scores["poisons found"].value == 0.75
    assert scores["honest samples touched"].value == 0.1


def test_a_model_that_reads_nothing_cannot_be_misled() -> None:
    found = mailed(**{"bare: right": torch.zeros(10, dtype=torch.uint8)})
    with pytest.raises(NotApplicable, match="reads no mail rightly"):
        scores_of(found, 0.05)
