"""Routes against safeguards as one picture: what gets through before and after, and the cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trustml.benchmarks.harness import finished
from trustml.contracts import Record, Score
from trustml.files import write_whole
from trustml.reports._drawing import DARK, QUIET, bare, canvas, png, short
from trustml.reports.route_table import NONE, Row, rows_of
from trustml.reports.tables import spec_of

KINDS = ("route", "poison")
_COSTS = (
    ("clean accuracy, points", "clean accuracy change", 100.0, "{:+.1f}"),
    ("by hand, of 1000", "review per 1000", 1.0, "{:.0f}"),
    ("ms, one piece of mail", "latency p50", 1.0, "{:.2g}"),
)


def route_pictures(folder: Path) -> list[Path]:
    """Draw the routes and safeguards of each model of a run into its folder; return the files.

    Raises:
        BadInput: the folder holds no run.
    """
    groups: dict[tuple[str, int], list[Record]] = {}
    for record in finished(folder):
        if record.kind in KINDS:
            groups.setdefault((record.model, record.seed), []).append(record)
    drawn = []
    for number, group in enumerate(groups.values()):
        path = folder / ("routes.png" if not number else f"routes-{number + 1}.png")
        write_whole(path, route_figure(group))
        drawn.append(path)
    return drawn


def route_figure(group: Sequence[Record]) -> bytes:
    """Return the PNG: a row a route, a column a safeguard, what it costs below."""
    rows = rows_of(group)
    ways = list(dict.fromkeys(row.way for row in rows))
    guards = list(dict.fromkeys(row.guard for row in rows))
    figure = canvas(max(6.4, 2.4 + 1.5 * len(guards)), 1.9 + 0.5 * (len(ways) + len(_COSTS)))
    above, below = figure.subplots(
        2, 1, height_ratios=[max(len(ways), 1), len(_COSTS)], sharex=True
    )
    for row in rows:
        _cell(above, (guards.index(row.guard), ways.index(row.way)), row)
    _grid(above, guards, ways)
    above.set_title(
        "mail that gets through: who does not know the safeguard → who does", fontsize=9
    )
    above.xaxis.tick_top()
    above.xaxis.set_tick_params(labeltop=True, length=0)
    for place, guard in enumerate(guards):
        for line, (_, name, unit, form) in enumerate(_COSTS):
            cost = _cost(rows, guard, name)
            text = form.format(unit * cost.value) if cost else "–"
            below.text(place, line, text, ha="center", va="center", fontsize=8, color=DARK)
    _grid(below, guards, [label for label, *_ in _COSTS])
    below.set_title("cost of the safeguard when nobody attacks", fontsize=9)
    below.xaxis.set_tick_params(labelbottom=False)
    model, data = spec_of(group[0].model)[0], spec_of(group[0].data)[0]
    figure.suptitle(f"{model} on {data}: routes and safeguards", fontsize=11)
    return png(figure)


def _cell(axis: Any, place: tuple[int, int], row: Row) -> None:
    """Colour the cell by what the attacker who knows most gets through."""
    from matplotlib import colormaps

    worst, static = row.worst, row.static
    color: Any = QUIET if worst is None else colormaps["YlOrRd"](0.85 * max(worst.value, 0.0))
    axis.add_patch(_square(place, color))
    text = row.record.status if worst is None or static is None else f"{100 * worst.value:.0f} %"
    if worst is not None and static is not None and row.guard != NONE:
        text = f"{100 * static.value:.0f} → {100 * worst.value:.0f} %"
    if worst is not None and "success adaptive" not in row.record.scores:
        text = f"{100 * worst.value:.0f} %"
    dark = worst is not None and worst.value > 0.6
    axis.text(*place, text, ha="center", va="center", fontsize=8, color="white" if dark else DARK)


def _square(place: tuple[int, int], color: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((place[0] - 0.48, place[1] - 0.46), 0.96, 0.92, color=color)


def _grid(axis: Any, columns: Sequence[str], lines: Sequence[str]) -> None:
    bare(axis)
    axis.set_xlim(-0.5, len(columns) - 0.5)
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.set_xticks(range(len(columns)), [short(name, 22) for name in columns], fontsize=8,
                    rotation=20)  # fmt: skip
    axis.set_yticks(range(len(lines)), [short(name) for name in lines], fontsize=8)
    axis.tick_params(length=0)
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)


def _cost(rows: Sequence[Row], guard: str, name: str) -> Score | None:
    """Return the first of the safeguard's rows that has the score; each route measures it anew."""
    known = (row.record.scores.get(name) for row in rows if row.guard == guard)
    return next((score for score in known if score is not None), None)
