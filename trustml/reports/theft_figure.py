"""Agreement of stolen copies against the queries that they took, drawn into the run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import finished
from trustml.benchmarks.thefts import read
from trustml.contracts import Record
from trustml.files import write_whole
from trustml.reports._drawing import PALETTE, canvas, plain, png
from trustml.reports.tables import apart, spec_of

PICTURE = "queries.png"
_MARKS = "osD^vP*X"
_ACROSS = 3

Points = list[tuple[int, float]]


def theft_picture(folder: Path) -> Path | None:
    """Draw the curves of a run with thieves; return the file, or None where nothing was stolen.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    done = [r for r in finished(folder) if r.kind == "stealer" and r.status == "done"]
    panels: dict[str, list[tuple[Record, Points]]] = {}
    for record in done:
        stored = read(folder / CASES / record.case / SAMPLES)
        agreement = stored["curve: agreement"].tolist()
        points = list(zip(stored["curve: queries"].tolist(), agreement, strict=True))
        panels.setdefault(_panel(record), []).append((record, points))
    if not panels:
        return None
    write_whole(folder / PICTURE, theft_figure(panels))
    return folder / PICTURE


def theft_figure(panels: dict[str, list[tuple[Record, Points]]]) -> bytes:
    """Return the PNG, one panel a service; each thief's copies are marked, its last one filled."""
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    figure = canvas(4.6 * across, 3.4 * down)
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, thefts) in zip(axes, panels.items(), strict=False):
        _draw(axis, title, thefts)
    return png(figure)


def _draw(axis: Any, title: str, thefts: Sequence[tuple[Record, Points]]) -> None:
    labels = apart([(record.plugin, record.options) for record, _ in thefts])
    for number, (label, (_, points)) in enumerate(zip(labels, thefts, strict=True)):
        queries, shares = zip(*points, strict=True)
        height = [100 * share for share in shares]
        colour, mark = PALETTE[number % len(PALETTE)], _MARKS[number % len(_MARKS)]
        axis.plot(queries, height, color=colour, marker=mark, markersize=4, label=label)
    axis.axhline(99, color="#999999", linewidth=0.8, linestyle=":")
    axis.set_xscale("log")
    _count_queries(axis)
    axis.set_ylim(0, 102)
    axis.set_title(title, fontsize=8)
    axis.set_xlabel("queries")
    axis.set_ylabel("agreement on test data in %")
    axis.legend(fontsize=6, loc="lower right")
    plain(axis)


def _count_queries(axis: Any) -> None:
    """Mark 1, 2 and 5 of each power of ten by whole numbers, which do not run into each other."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=7)


def _panel(record: Record) -> str:
    """Return what tells one service from another."""
    victim, shield = record.threat["victim"], record.threat.get("countermeasure", "none")
    name, _ = spec_of(record.model)
    against = "" if shield == "none" else f"\nbehind {shield}"
    return f"{name}, seed {record.seed}, {victim['answers']} ({victim['precision']}){against}"
