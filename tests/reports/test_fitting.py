"""Tables that fit: whatever is in them, no line is too long and no figure is lost."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from trustml.reports.fitting import fitted
from trustml.reports.tables import console, plain_table

NAMES = st.lists(
    st.text("abc _:=,\n", min_size=1, max_size=60), min_size=1, max_size=4
)  # fmt: skip
CELLS = st.lists(st.integers(0, 10**12).map(str), min_size=1, max_size=14)


def _printed(table: Table, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    screen = console()
    with screen.capture() as shown:
        screen.print(table)
    return shown.get()


@given(NAMES, CELLS, st.integers(60, 100))
def test_no_line_is_too_long_and_no_figure_is_lost(
    names: list[str], cells: list[str], width: int
) -> None:
    table = plain_table("title " * 30, "name", [f"head\n{n}" for n in range(len(cells))])
    for name in names:
        table.add_row(name, *cells)
    with pytest.MonkeyPatch.context() as monkeypatch:
        text = _printed(table, width, monkeypatch)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for cell in cells:
        assert words.count(cell) >= cells.count(cell) * len(names)


def test_parts_repeat_the_names_and_say_that_they_go_on() -> None:
    """Three columns of 30 and a name in 80: two and one; the caption is said once, at the end."""
    table = plain_table("what", "name", ["a", "b", "c"])
    table.add_row("first", *["x" * 30] * 3, end_section=True)
    table.add_row("second", *["y" * 30] * 3)
    table.caption = "told once"
    parts: list[Any] = fitted([table], 80)
    assert [str(part) for part in parts if isinstance(part, Text)] == [
        "what", "what, continued", "told once",
    ]  # fmt: skip
    tables = [part for part in parts if isinstance(part, Table)]
    assert [[str(c.header) for c in t.columns] for t in tables] == [
        ["name", "a", "b"],
        ["name", "c"],
    ]
    assert [list(t.columns[0].cells) for t in tables] == [["first", "second"]] * 2
    assert all(t.rows[0].end_section for t in tables)
    assert parts[-1].plain == "told once"


def test_a_name_is_wrapped_before_a_column_is_told_apart() -> None:
    """Four words of 24 in all beside 54 columns of figures: in 80 the words take two lines."""
    table = plain_table("", "name", ["a", "b"])
    table.add_row("noise of the same budget", "x" * 27, "y" * 27)
    assert len(fitted([table], 80)) == 1
    assert len(fitted([table], 70)) == 2


def test_the_width_of_no_terminal_is_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pipe is 100 wide, or as wide as COLUMNS says, as other programs have it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console().width == 100
    monkeypatch.setenv("COLUMNS", "80")
    assert console().width == 80
