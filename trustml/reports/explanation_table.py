"""Records of explanations → tables: faithful, of this model, stable; and a verdict."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trustml.benchmarks.explanation_cases import ASIDE
from trustml.benchmarks.explanations import KNOW_NOTHING
from trustml.contracts import Record
from trustml.reports.tables import DASH, apart, number, plain_table, remarks

_FAITHFUL = {
    "completeness error": "complete-\nness",
    "multi-baseline error": "base-\nlines",
    "infidelity": "infi-\ndelity",
    "sensitivity-n": "sensi-\ntivity-n",
    "deletion": "deletion\nAUC",
    "insertion": "insertion\nAUC",
    "ROAD": "ROAD",
}
_OF_MODEL = {
    "parameter randomisation": "random\nweights",
    "complexity rise": "complex-\nity rise",
    "data randomisation": "random\nlabels",
    "mosaic localisation": "mosaic",
    "trigger localisation": "trigger",
}
_STABLE = {
    "maximum sensitivity": "sensi-\ntivity",
    "maximum sensitivity, attacked": "attacked\nsensit.",
    "stability under attack": "stable un-\nder attack",
    "queries to 99 %": "queries\nto 99 %",
    "leaked agreement": "leaked\nagreem.",
}
_TABLES = (
    ("faithful?", _FAITHFUL),
    ("of this model?", _OF_MODEL),
    ("stable? and their price", _STABLE),
)
_ARROWS = {"higher": "↑", "lower": "↓"}
_CAPTION = (
    "↑ higher is better, ↓ lower is; * best, = not distinguishable from it; intervals: --json"
)
# Notes on how each row was attacked stay in its record.
_HOW = ": attacked by "
_MOST_PAIRED = 8
_BASIS = "ROAD"


@dataclass(frozen=True, slots=True)
class _Rows:
    """Finished records, labels by case, and metric → the best case and what is level with it."""

    done: Sequence[Record]
    labels: Mapping[str, str]
    best: Mapping[str, Any]

    def mark(self, metric: str, record: Record) -> str:
        """Return what stands behind a figure."""
        best = self.best.get(metric, {"case": "", "not distinguishable": ()})
        level = "=" if record.case in best["not distinguishable"] else ""
        return "*" if record.case == best["case"] else level


def explanation_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the tables of one model's explanations, their notes, and the verdict."""
    rows = [record for record in group if record.plugin != ASIDE]
    aside = [record for record in group if record.plugin == ASIDE]
    names = apart([(record.plugin, record.options) for record in rows])
    labels = dict(zip((record.case for record in rows), names, strict=True))
    done = [record for record in rows if record.status == "done"]
    best: Mapping[str, Any] = next((r.options["best"] for r in aside if "best" in r.options), {})
    all_rows = _Rows(done, labels, best)
    measured = {name for record in done for name in record.scores}
    for title, columns in _TABLES:
        if columns is not _STABLE and not measured.intersection(columns):
            continue
        yield _table(all_rows, columns, f"{model} on {data}: explanations {title}")
    if 1 < len(done) <= _MOST_PAIRED and any(record.scores for record in aside):
        yield _agreements(all_rows, aside[0])
    # A note that stands in every finished row is said once, of all of them.
    told = [replace(r, notes=tuple(n for n in r.notes if _HOW not in n)) for r in done]
    for some in (told, [record for record in rows if record.status != "done"]):
        yield from remarks(some, [labels[record.case] for record in some])
    yield from (Text(f"note: {note}", style="yellow") for r in aside for note in r.notes)
    yield Text(verdict(all_rows, aside), style="bold")
    yield Text("")


def verdict(rows: _Rows, aside: Sequence[Record]) -> str:
    """Return which method tells most about the model, by the figure that needs no opinion."""
    able = [r for r in rows.done if r.plugin not in KNOW_NOTHING and _BASIS in r.scores]
    if not able:
        return "Verdict: none, no explanation was examined by what its removal costs."
    first = max(able, key=lambda record: record.scores[_BASIS].value)
    level = [rows.labels[r.case] for r in able if rows.mark(_BASIS, r) == "="]
    with_it = f" Not distinguishable from it: {', '.join(level)}." if level else ""
    weak = [n for r in aside for n in r.notes if n.startswith(f"{_BASIS}: ")]
    hint = " Not every method can be told from a random map." if weak else ""
    name = rows.labels[first.case]
    if any(_names(note, first, record) for record in aside for note in record.notes):
        return (
            f"Verdict: none, for taking away what an explanation points to costs no more than what "
            f"a random map does, even with the best, {name} (ROAD)."
        )
    return f"Verdict: taking away what it points to, {name} is the most telling.{with_it}{hint}"


def _names(note: str, record: Record, aside: Record) -> bool:
    """Return whether the note says of a method that it is no better than a random map."""
    metric, _, said = note.partition(": ")
    _, _, names = said.partition(" a random map: ")
    own = record.case.removeprefix(aside.case.removesuffix(ASIDE))
    return metric == _BASIS and own in names.split(", ")


def _table(rows: _Rows, columns: Mapping[str, str], title: str) -> Table:
    better = {n: s.better for record in rows.done for n, s in record.scores.items()}
    known = [name for name in columns if name in better]
    heads = [f"{columns[name]} {_ARROWS[better[name]]}" for name in known]
    costs = ["passes\nfwd+bwd", "s"] if columns is _STABLE else []
    table = plain_table(title, "method", [*heads, *costs])
    for record in rows.done:
        found = [(record.scores.get(name), rows.mark(name, record) or " ") for name in known]
        figures = [number(score.value) + mark if score else DASH for score, mark in found]
        cost = record.cost
        paid = [f"{cost.forwards:.0f}+{cost.backwards:.0f}", f"{cost.seconds:.2f}"]
        table.add_row(rows.labels[record.case], *figures, *(paid if costs else []))
    table.caption = _CAPTION
    return table


def _agreements(rows: _Rows, aside: Record) -> Table:
    """Return how each two methods' parts agree in rank."""
    first = rows.done[0].case
    model = aside.case.removesuffix(ASIDE)
    assert first.startswith(model)
    names = {record.case: record.case.removeprefix(model) for record in rows.done}
    numbers = {case: str(place) for place, case in enumerate(names, start=1)}
    table = plain_table("agreement of parts (Spearman's ρ)", "method", [*numbers.values()])
    for one in names:
        cells = []
        for other in names:
            pairs = (
                f"agreement of {names[a]} and {names[b]}" for a, b in ((one, other), (other, one))
            )
            score = next((aside.scores[pair] for pair in pairs if pair in aside.scores), None)
            cells.append(f"{score.value:.2f}" if score else DASH)
        table.add_row(f"{numbers[one]} {rows.labels[one]}", *cells)
    return table
