"""A row over seeds: Normal-Normal by hand, and what becomes of failed ones."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from trustml.benchmarks.pooling import pooled_score
from trustml.benchmarks.verify import verify
from trustml.contracts import Record, Score
from trustml.errors import BrokenClaim
from trustml.records import read_records, to_line

Run = Callable[..., list[Record]]


def test_without_sampling_error_it_is_student_s_interval() -> None:
    """Points without width: mean ± t · s / √n, as scipy has it."""
    values = [0.5, 0.6, 0.9]
    found = pooled_score([Score(v, v, v, "higher") for v in values], most=math.inf)
    low, high = stats.t.interval(0.95, 2, loc=2 / 3, scale=stats.sem(values))
    assert found.value == pytest.approx(2 / 3)
    assert (found.low, found.high) == pytest.approx((max(low, 0), high))


def test_equal_seeds_keep_the_width_of_one() -> None:
    """The test set is the same for all seeds, so that more of them do not narrow its share."""
    found = pooled_score([Score(0.8, 0.7, 0.9, "lower")] * 5)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.7, 0.9))
    assert found.better == "lower"


def test_a_share_stays_one() -> None:
    """Two seeds, t = 12.7: however wide it is, errors that were seen are not none, nor were all."""
    found = pooled_score([Score(v, v, v, "higher") for v in (0.9, 1.0)], most=1.0)
    assert 0 < found.low < 0.5 < found.value < found.high < 1.0


def test_a_narrow_share_is_as_wide_as_on_the_line() -> None:
    """The logarithm's slope at p is 1 / p, so to first order nothing changes."""
    scores = [Score(v, v - 0.002, v + 0.002, "higher") for v in (0.3, 0.301, 0.302)]
    line, share = pooled_score(scores), pooled_score(scores, most=1.0)
    assert share.value == line.value
    assert (share.low, share.high) == pytest.approx((line.low, line.high), abs=2e-5)


def test_two_seeds_near_an_end_say_what_they_can() -> None:
    """0.976 and 1: t = 12.7 times 0.012 is 0.15 below the mean; above it there is just 0.012."""
    found = pooled_score([Score(v, v, v, "higher") for v in (0.976, 1.0)], most=1.0)
    assert found.low == pytest.approx(0.988 * math.exp(-12.706 * 0.012 / 0.988), rel=1e-3)
    assert found.value < found.high < 1


@pytest.mark.parametrize(
    ("value", "low", "high"), [(0.4, 0.3, 0.6), (1.0, 0.9, 1.0), (0.0, 0.0, 0.1)]
)
def test_seeds_that_agree_leave_open_what_each_does(value: float, low: float, high: float) -> None:
    """0 of 30 errors with every seed: the tail of one test set, all of it on the side there is."""
    found = pooled_score([Score(value, low, high, "higher")] * 3, most=1.0)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high))


def test_a_run_over_seeds_ends_in_pooled_rows(run: Run, tmp_path: Path) -> None:
    """Each seed trains its own model; the pooled value is the mean, and verify holds it to that."""
    records = run(models=("mlp:epochs=2,hidden=[8]",), seed=3, seeds=2)
    assert [r.seed for r in records] == [3, 3, 3, 4, 4, 4, 3, 3, 3]
    assert [r.kind for r in records[-3:]] == ["pooled"] * 3
    assert records[0].weights != records[3].weights
    last = records[-1]
    assert last.options["of"] == [records[2].case, records[5].case]
    wanted = [records[row].scores["robust accuracy"].value for row in (2, 5)]
    assert last.scores["robust accuracy"].value == pytest.approx(sum(wanted) / 2)
    assert len(list(verify(tmp_path / "run"))) == 9
    file = tmp_path / "run" / "records.jsonl"
    forged = replace(last, scores={**last.scores, "robust accuracy": Score(1, 1, 1, "higher")})
    lines = [to_line(r) for r in [*read_records(file)[:-1], forged]]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(BrokenClaim, match="do not follow from those of the seeds"):
        list(verify(tmp_path / "run"))


def test_seeds_that_failed_are_named_or_leave_nothing_to_pool(run: Run) -> None:
    """An attack that fails on every seed has nothing to pool; the others do."""
    records = {(r.kind, r.plugin): r for r in run(attacks=("fails", "aim"), seeds=2)}
    assert records["pooled", "fails"].status == "skipped"
    assert "0 of 2 seeds" in records["pooled", "fails"].reason
    assert records["pooled", "aim"].status == "done"
