"""The table of two runs' differences."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from trustml.reports.comparison import comparison
from trustml.reports.tables import console


@dataclass(frozen=True)
class Row:
    """A case of two runs, as the benchmarks give it."""

    case: str
    first: float
    second: float
    apart: bool
    only_first: int | None
    only_second: int | None
    options: tuple[str, ...] = ()


def test_a_row_holds_both_rates_and_their_difference(capsys: pytest.CaptureFixture[str]) -> None:
    """A star where the intervals do not touch; a dash where the samples are not the same."""
    rows = [Row("a", 0.5, 0.25, True, 3, 28), Row("[/b]", 0.5, 0.505, False, None, None)]
    console().print(comparison(rows, Path("one"), Path("two")))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "one → two"
    first = next(line.split() for line in lines if line.strip().startswith("a "))
    assert first == ["a", "50.0", "25.0", "-25.0", "*", "3", "28"]
    second = next(line.split() for line in lines if line.strip().startswith("[/b]"))
    assert second == ["[/b]", "50.0", "50.5", "+0.5", "–", "–"]
    assert "–: these runs are of other samples" in " ".join(lines)


def test_options_that_differ_stand_below_their_case(capsys: pytest.CaptureFixture[str]) -> None:
    """Cases are named by their attacks alone, so that two of one name may be two things."""
    rows = [Row("a", 0.5, 0.25, True, 3, 28, ("steps: 1 → 100",)), Row("b", 0.5, 0.5, False, 0, 0)]
    console().print(comparison(rows, Path("one"), Path("two")))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[lines.index("steps: 1 → 100") - 1].startswith("a ")
    assert "options that the runs gave otherwise" in " ".join(lines)
    console().print(comparison(rows[1:], Path("one"), Path("two")))
    assert "otherwise" not in capsys.readouterr().out
