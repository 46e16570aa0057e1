"""Records of explanations → tables: faithful, stable and sane, and a verdict in plain words."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trustml.contracts import Record
from trustml.reports.tables import DASH, apart, number, plain_table, remarks

_FAITHFUL = {
    "completeness error": "complete-\nness err.",
    "multi-baseline error": "other\nbaselines",
    "infidelity": "infi-\ndelity",
    "sensitivity-n": "sensi-\ntivity-n",
    "deletion": "deletion\nAUC",
    "insertion": "insertion\nAUC",
    "ROAD": "ROAD",
}
_STABLE = {
    "maximum sensitivity": "sensi-\ntivity",
    "maximum sensitivity, attacked": "attacked\nsensit.",
    "stability under attack": "stable un-\nder attack",
    "queries to 99 %": "queries\nto 99 %",
    "leaked agreement": "leaked\nagreem.",
}
_OF_MODEL = {
    "parameter randomisation": "random\nweights",
    "complexity rise": "complex-\nity rise",
    "data randomisation": "random\nlabels",
    "mosaic localisation": "mosaic",
    "trigger localisation": "trigger",
}
_TABLES = (
    ("faithful?", _FAITHFUL),
    ("of this model, and of the right place?", _OF_MODEL),
    ("stable? and what they cost", _STABLE),
)
# Notes on how each row was attacked stay in its record.
_HOW = ": attacked by "
_KNOW_NOTHING = ("random", "blurred_random")


def explanation_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the tables of one model's explanations, their notes, and the verdict."""
    rows = [record for record in group if record.plugin != "beside_random"]
    aside = [record for record in group if record.plugin == "beside_random"]
    labels = apart([(record.plugin, record.options) for record in rows])
    done = [record for record in rows if record.status == "done"]
    named = dict(zip((record.case for record in rows), labels, strict=True))
    for title, columns in _TABLES:
        yield _table(done, named, columns, f"{model} on {data}: explanations {title}")
    # A note that stands in every finished row is said once, of all of them.
    told = [replace(r, notes=tuple(n for n in r.notes if _HOW not in n)) for r in done]
    for some in (told, [record for record in rows if record.status != "done"]):
        yield from remarks(some, [named[record.case] for record in some])
    yield from (Text(f"note: {note}", style="yellow") for r in aside for note in r.notes)
    yield Text(verdict(done, named, aside), style="bold")
    yield Text("")


def verdict(done: Sequence[Record], named: dict[str, str], aside: Sequence[Record]) -> str:
    """Return which method tells most about the model, by the figure that needs no opinion."""
    able = [r for r in done if r.plugin not in _KNOW_NOTHING and "ROAD" in r.scores]
    if not able:
        return "Verdict: none, no explanation was examined."
    best = min if able[0].scores["ROAD"].better == "lower" else max
    first = best(able, key=lambda record: record.scores["ROAD"].value)
    weak = [n for r in aside for n in r.notes if n.startswith("ROAD")]
    hint = " Not every method can be told from a random map." if weak else ""
    return f"Verdict: taking away what it points to, {named[first.case]} is the most telling.{hint}"


def _table(
    rows: Sequence[Record], named: dict[str, str], columns: dict[str, str], title: str
) -> Table:
    better = {n: s.better for record in rows for n, s in record.scores.items()}
    arrow = {"higher": "↑", "lower": "↓"}
    known = [name for name in columns if name in better]
    heads = [f"{columns[name]} {arrow[better[name]]}" for name in known]
    costs = ["passes\nfwd+bwd", "s"] if columns is _STABLE else []
    table = plain_table(title, "method", [*heads, *costs])
    for record in rows:
        found = [record.scores.get(name) for name in known]
        cost = record.cost
        figures = [number(score.value) if score else DASH for score in found]
        paid = [f"{cost.forwards:.0f}+{cost.backwards:.0f}", f"{cost.seconds:.2f}"]
        table.add_row(named[record.case], *figures, *(paid if costs else []))
    table.caption = "↑ higher is better, ↓ lower is; intervals: --json"
    return table
