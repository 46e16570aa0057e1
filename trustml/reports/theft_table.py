"""Records of thefts → a table, and a verdict in plain words."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.text import Text

from trustml.contracts import Record
from trustml.reports.tables import DASH, apart, number, percent, plain_table, remarks

_HEADS = (
    "agreement\ntest %", "agreement\nuniform %", "accu-\nracy %", "parameter\nerror",
    "worst\ngap", "transfer\n%",
)  # fmt: skip
_COSTS = ("queries", "× least", "to 99 %", "to 99.9 %", "to exact", "× without", "alarm", "s")
_LEVELS = ("queries to 99 %", "queries to 99.9 %", "queries to exact")


def theft_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the tables of one victim's thieves, their notes, and the verdict."""
    group = [record for record in group if record.kind != "service" or record.status != "done"]
    terms = group[0].threat["victim"]
    shown = terms["answers"] + (f" of {terms['decimals']} decimals" if terms["decimals"] else "")
    shield = group[0].threat.get("countermeasure", "none")
    against = "" if shield == "none" else f", behind {shield}"
    title = f"{model} on {data}, stolen by its {shown} ({terms['precision']}, {terms['inputs']})"
    labels = apart([(record.plugin, record.options) for record in group])
    table = plain_table(title + against, "stealer", _HEADS)
    costs = plain_table("what it took", "stealer", _COSTS)
    for record, label in zip(group, labels, strict=True):
        table.add_row(label, *(_cells(record) if record.status == "done" else [record.status]))
        costs.add_row(label, *_cost_cells(record))
    table.caption = (
        "error: relative, modulo what no answer tells;\n"
        "transfer: of what fools the copy (attacked on it), what fools the victim"
    )
    costs.caption = (
        "to 99 %: queries to that agreement on the test set; exact: every test and uniform input;\n"
        "× without: queries at equal agreement, beside the same thief where nothing is done"
    )
    yield table
    yield costs
    told = [replace(record, notes=tuple(map(_plainly, record.notes))) for record in group]
    yield from remarks(told, labels)
    yield Text(verdict(group, labels), style="bold")
    yield Text("")


def verdict(group: Sequence[Record], labels: Sequence[str]) -> str:
    """Return how well the model is stolen, by the thief that agrees with it most."""
    done = [(r, label) for r, label in zip(group, labels, strict=True) if r.status == "done"]
    if not done:
        return "Verdict: nothing was stolen: no thief was able to work in these terms."
    best, label = max(
        done, key=lambda pair: (pair[0].scores["agreement (uniform)"].value, -pair[0].cost.queries)
    )
    share = best.scores["agreement (test)"].value
    error = best.scores.get("parameter error")
    known = f", its parameters to {error.value:.1e}" if error else ""
    return (
        f"Verdict: with {best.cost.queries:.0f} queries {label} makes a copy that answers "
        f"{percent(share)} of the test set alike{known}."
    )


def _plainly(note: str) -> str:
    """Return what a thief's certificate says of its copy; its figures stay in the record."""
    if not note.startswith("certified: "):
        return note
    method = re.search(r"\bmethod (\w+)", note)
    by = f" ({method[1]})" if method else ""
    gaps = re.search(r"check gap ([^,]+), check gap that rounding explains ([^,]+)", note)
    if gaps:
        return (
            f"the thief held its copy against more answers{by}: they differ by {gaps[1]} at most, "
            f"where rounding explains {gaps[2]}"
        )
    right = re.search(r"(?:: |, )right (True|False)", note)
    if right is None:
        return f"nothing but the agreement proves how alike the copy is{by}"
    if right[1] == "True":
        return f"by the thief's own checks its copy is the model, up to what no answer tells{by}"
    return (
        f"the thief tried to rebuild the model exactly{by}, and its own checks say that it did "
        f"not: the copy comes near, and is not the model"
    )


def _cells(record: Record) -> list[str]:
    def share(name: str) -> str:
        score = record.scores.get(name)
        return DASH if score is None else f"{100 * score.value:.1f}"

    return [
        share("agreement (test)"), share("agreement (uniform)"), share("accuracy of the copy"),
        _plain(record, "parameter error"), _plain(record, "worst gap"), share("transfer"),
    ]  # fmt: skip


def _cost_cells(record: Record) -> list[str]:
    def count(name: str) -> str:
        score = record.scores.get(name)
        return DASH if score is None else f"{score.value:.0f}"

    return [
        f"{record.cost.queries:.0f}", _plain(record, "queries over the least"),
        *(count(name) for name in _LEVELS),
        _plain(record, "× queries at equal agreement"), count("alarm"),
        f"{record.cost.seconds:.2f}",
    ]  # fmt: skip


def _plain(record: Record, name: str) -> str:
    score = record.scores.get(name)
    if score is None:
        return DASH
    return f"{score.value:.1e}" if score.value < 0.01 else number(score.value)
