"""Records of routes and safeguards → the scoring table, what gets past each, and a verdict."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trustml.contracts import Record, Score
from trustml.reports.tables import DASH, Spec, apart, number, percent, plain_table, spec_of

NONE = "none"
_HEADS = (
    "static\n%", "adaptive %\n(95 %)", "clean\npoints", "found\n1 %", "found\n5 %",
    "delay", "by hand", "ms\np50", "ms\np95",
)  # fmt: skip
_CAPTION = (
    "static, adaptive: misread and not stopped, where the attacker does not, and does, know the\n"
    "safeguard (a poison: its trigger's success, or accuracy lost); clean: accuracy, change in\n"
    "points; found: misread mail, or streams, at so many false alarms; delay: in items, at 5 %;\n"
    "by hand: of 1000 pieces of clean mail; ms: for one piece of mail; *: at its own rate"
)


@dataclass(frozen=True, slots=True)
class Row:
    """A record and what it is called: its route or poison, and its safeguard or none."""

    record: Record
    way: str
    guard: str

    @property
    def worst(self) -> Score | None:
        """What the attacker who knows most gets through, if the case is finished."""
        return self.record.scores.get("success adaptive", self.static)

    @property
    def static(self) -> Score | None:
        """What an attacker who does not know the safeguard gets through, or a poison takes."""
        return self.record.scores.get("success static")


def rows_of(group: Sequence[Record]) -> list[Row]:
    """Return the records of one model with their names, in order."""
    guards = list(group[0].threat["safeguards"])
    names = dict(zip(guards, apart([spec_of(guard) for guard in guards]), strict=True))
    # A pooled record names no safeguard, but stands where that of one seed would stand.
    own = [r.options.get("safeguard", guards[n % len(guards)]) for n, r in enumerate(group)]
    ways: list[Spec] = [(r.plugin, _without_guard(r)) for r in group]
    apart_ways = [way for number, way in enumerate(ways) if way not in ways[:number]]
    labels = apart(apart_ways)
    return [
        Row(record, labels[apart_ways.index(way)], names[guard])
        for record, way, guard in zip(group, ways, own, strict=True)
    ]


def route_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the table of one model's routes and safeguards, notes, limits, and the verdict."""
    if group[0].kind == "pooled":
        data = f"{data}, mean of {len(group[0].options['of'])} seeds"
    rows = rows_of(group)
    yield _table(rows, f"{model} on {data}: what gets through, without and with each safeguard")
    yield from _remarks(rows)
    yield Text(verdict(rows), style="bold")
    yield Text("")


def verdict(rows: Sequence[Row]) -> str:
    """Return what the best safeguard leaves of each route, and which are open."""
    said = []
    for way, of in groupby(rows, key=lambda row: row.way):
        mine = list(of)
        done = [row for row in mine if row.worst is not None]
        bare = next((row.worst for row in done if row.guard == NONE), None)
        guards = [row for row in done if row.guard != NONE]
        if bare is None:
            reason = mine[0].record.reason
            said.append(f"{way}: not examined" + (f" ({reason})" if reason else ""))
        elif not guards:
            said.append(f"{way} {percent(bare.value)}")
        else:
            best = min(guards, key=lambda row: row.worst.value if row.worst else 1.0)
            left = best.worst
            assert left is not None, "only finished rows are compared"
            helped = left.value < bare.value
            said.append(
                f"{way} {percent(bare.value)}, with {best.guard} {percent(left.value)}"
                if helped
                else f"{way} {percent(bare.value)}, which no safeguard here lowers"
            )
    who = "adaptive" if any("success adaptive" in row.record.scores for row in rows) else "static"
    return f"Verdict: what gets through ({who} attackers): {'; '.join(said)}."


def _table(rows: Sequence[Row], title: str) -> Table:
    table = plain_table(title, "route or poison,\nsafeguard", _HEADS)
    for _, of in groupby(rows, key=lambda row: row.way):
        mine = list(of)
        for row in mine:
            name = row.way if row.guard == NONE else f"  {row.guard}"
            last = row is mine[-1]
            table.add_row(name, *_cells(row.record), end_section=last)
    table.caption = _CAPTION
    return table


def _cells(record: Record) -> list[str]:
    if record.status != "done":
        return [record.status, *[""] * 8]
    scores = record.scores

    def share(name: str) -> str:
        return f"{100 * scores[name].value:.1f}" if name in scores else DASH

    worst, change = scores.get("success adaptive"), scores["clean accuracy change"].value
    interval = (
        f"{100 * worst.value:.1f} ({100 * worst.low:.0f}{DASH}{100 * worst.high:.0f})"
        if worst
        else DASH
    )
    way = "adaptive" if worst else "static"
    delay = scores.get(f"delay {way} at 5 %")
    found = [share(f"found {way} at {rate}") for rate in ("1 %", "5 %")]
    if "poisons found" in scores:
        found[1] = f"{share('poisons found')}*"
    return [
        share("success static"), interval, f"{100 * change:+.1f}", *found,
        number(delay.value) if delay else DASH, f"{scores['review per 1000'].value:.0f}",
        *(number(scores[name].value) if name in scores else DASH
          for name in ("latency p50", "latency p95")),
    ]  # fmt: skip


def _remarks(rows: Sequence[Row]) -> Iterator[Text]:
    """Yield reasons and notes, each once, with the rows that it is about."""
    about: dict[str, list[Row]] = {}
    for row in rows:
        for remark in [*([row.record.reason] if row.record.reason else []), *row.record.notes]:
            about.setdefault(remark, []).append(row)
    for remark, of in about.items():
        guards = dict.fromkeys(row.guard for row in of)
        ways = dict.fromkeys(row.way for row in of)
        every = len(ways) == len({row.way for row in rows if row.guard in guards})
        guarded = sum(row.guard != NONE for row in rows)
        where = "" if len(of) >= max(guarded, 1) else f"{', '.join(guards)}: "
        if where and not every:
            where = f"{', '.join(guards)} against {', '.join(ways)}: "
        yield Text(f"note: {where}{remark}", style="yellow")


def _without_guard(record: Record) -> dict[str, object]:
    if record.kind == "pooled":
        return {}
    return {name: value for name, value in record.options.items() if name != "safeguard"}
