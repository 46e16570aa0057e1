"""Two runs side by side, with differences that are known by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trustml.benchmarks.compare import differences
from trustml.benchmarks.discipline import CASES
from trustml.contracts import Record
from trustml.errors import BadInput, BrokenClaim

Run = Callable[..., list[Record]]


def test_a_run_does_not_differ_from_itself(run: Run, tmp_path: Path) -> None:
    run("a")
    for row in differences(tmp_path / "a", tmp_path / "a"):
        assert row.first == row.second
        assert not row.apart
        assert row.only_first == row.only_second == 0


def test_samples_that_only_one_run_fooled_are_counted(run: Run, tmp_path: Path) -> None:
    """Odd against even: five each, none in common; the accuracies are equal."""
    run("odd", attacks=("aim:only=odd",))
    run("even", attacks=("aim:only=even",))
    rows = {row.case: row for row in differences(tmp_path / "odd", tmp_path / "even")}
    aim = rows["largest-linf-0.1-aim"]
    assert (aim.only_first, aim.only_second, aim.first, aim.second) == (5, 5, 15 / 22, 15 / 22)
    assert (rows["largest-linf-0.1-noise"].only_first) == 0
    assert aim.options == ("only: odd → even",)
    assert rows["largest-linf-0.1-noise"].options == ()


def test_the_counts_stand_on_their_own_side(run: Run, tmp_path: Path) -> None:
    """All ten against the five odd ones: five are fooled in the first run alone."""
    run("all")
    run("odd", attacks=("aim:only=odd",))
    row = differences(tmp_path / "all", tmp_path / "odd")[1]
    assert (row.only_first, row.only_second) == (5, 0)
    row = differences(tmp_path / "odd", tmp_path / "all")[1]
    assert (row.only_first, row.only_second) == (0, 5)


def test_intervals_that_do_not_touch_are_marked(run: Run, tmp_path: Path) -> None:
    """None of 22 robust against 10 of 22 are apart; a run and itself are not."""
    run("all", epsilons=(0.3,))
    run("odd", epsilons=(0.3,), attacks=("aim:only=odd",))
    first = {row.case: row for row in differences(tmp_path / "all", tmp_path / "odd")}
    assert first["largest-linf-0.3-aim"].apart
    same = {row.case: row for row in differences(tmp_path / "odd", tmp_path / "odd")}
    assert not same["largest-linf-0.3-aim"].apart


def test_runs_on_other_samples_are_compared_by_their_rates_alone(run: Run, tmp_path: Path) -> None:
    run("a", shard=(0, 2))
    run("b", shard=(1, 2))
    row = differences(tmp_path / "a", tmp_path / "b")[1]
    assert row.only_first is None
    assert row.only_second is None
    assert row.first == row.second == 5 / 11


def test_what_cannot_be_compared_is_refused(run: Run, tmp_path: Path) -> None:
    run("a")
    run("b", epsilons=(0.2,))
    with pytest.raises(BadInput, match=r"no case is finished in both runs; .*aim"):
        differences(tmp_path / "a", tmp_path / "b")
    with pytest.raises(BadInput, match="holds no run"):
        differences(tmp_path / "a", tmp_path)
    for file in (tmp_path / "a" / CASES).glob("*/samples.safetensors"):
        file.unlink()
    with pytest.raises(BrokenClaim, match="is missing"):
        differences(tmp_path / "a", tmp_path / "a")
