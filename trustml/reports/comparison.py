"""The differences between two runs → a table."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from trustml.benchmarks.compare import Difference
from trustml.reports.tables import DASH


def comparison(rows: Sequence[Difference], first: Path, second: Path) -> Table:
    """Return the table; a star marks differences whose 95 % intervals do not touch."""
    table = Table(
        title=f"{first} → {second}", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    table.add_column("case", overflow="fold")
    for name in (
        "first\n%",
        "second\n%",
        "differ-\nence",
        "fooled only\nin first",
        "fooled only\nin second",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        gap = 100 * (row.second - row.first)
        counts = [DASH if n is None else str(n) for n in (row.only_first, row.only_second)]
        table.add_row(
            "\n  ".join((row.case, *row.options)),
            f"{100 * row.first:.1f}", f"{100 * row.second:.1f}",
            f"{gap:+.1f}{' *' if row.apart else ''}", *counts,
        )  # fmt: skip
    table.caption = "robust accuracy; * the 95 % intervals do not touch"
    if any(row.only_first is None for row in rows):
        table.caption += f"; {DASH}: these runs are of other samples"
    if any(row.options for row in rows):
        table.caption += "; below a case: options that the runs gave otherwise"
    table.caption_justify = "left"
    return table
