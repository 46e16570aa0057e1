"""Records of services that thieves meet → what forty queries tell of them, and what users get."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from trustml.contracts import Json, Record
from trustml.reports.fingerprint_words import fingerprint_words
from trustml.reports.tables import DASH, number, plain_table, remarks, spec_of

_STOLEN = 0.99
_HEADS = (
    "right\n%", "ECE", "refused\n%", "false\nalarm", "cheapest\nqueries", "× with-\nout",
    "alarm", "thieves that\nwalk through",
)  # fmt: skip


def service_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield what the fingerprint of each service tells, in lines, and what belies its terms."""
    for record in group:
        seen = record.threat["seen"]
        shield = _shield(record)
        against = f", with {shield}" if shield else ""
        yield Text(f"{model} on {data}{against}: what {record.cost.queries:.0f} queries tell")
        for line in _lines(seen):
            yield Text(f"  {line}")
    yield from remarks(group, [_shield(record) or "service" for record in group])
    yield Text("")


def countermeasure_tables(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Yield for each model a table of its countermeasures, where any were tried."""
    services = [r for r in records if r.kind == "service" and "seen" in r.threat]
    for of in dict.fromkeys((r.model, r.seed) for r in services):
        mine = [r for r in services if (r.model, r.seed) == of]
        if len(mine) < 2:
            continue
        thieves = [r for r in records if r.kind == "stealer" and (r.model, r.seed) == of]
        table = plain_table(f"{spec_of(of[0])[0]}: countermeasures", "", _HEADS)
        bare = _cheapest([r for r in thieves if not _shield(r)])
        for record in mine:
            shield = _shield(record)
            own = [r for r in thieves if _shield(r) == shield]
            table.add_row(_broken(shield) or "none", *_cells(record, own, bare))
        table.caption = (
            "right, ECE: of ordinary queries that are answered; false alarm: at which of them the "
            "first is refused or suspected; walk through: reach 99 % agreement; cheapest of them, "
            "beside the cheapest where nothing is done; alarm: at which query of theirs"
        )
        yield table
        yield Text("")


def _cells(record: Record, thieves: Sequence[Record], bare: Record | None) -> list[str]:
    def share(name: str, form: str, scale: float = 1.0) -> str:
        score = record.scores.get(name)
        return DASH if score is None else format(scale * score.value, form)

    through = [r.plugin for r in thieves if _needed(r) is not None]
    best = _cheapest(thieves)
    alarms = [r.scores["alarm"].value for r in thieves if "alarm" in r.scores]
    need, least = (None if r is None else _needed(r) for r in (best, bare))
    return [
        share("accuracy", ".1f", 100), share("ece", ".3f"), share("refused", ".1f", 100),
        _first(record),
        DASH if need is None else f"{need:.0f}", number(need / least) if need and least else DASH,
        f"{min(alarms):.0f}" if alarms else DASH, "\n".join(dict.fromkeys(through)) or "none",
    ]  # fmt: skip


def _first(record: Record) -> str:
    """Return the number of the first ordinary query that is refused, or raises an alarm."""
    found = [record.scores[n].value for n in ("first refusal", "false alarm") if n in record.scores]
    return f"{min(found):.0f}" if found else DASH


def _needed(record: Record) -> float | None:
    score = record.scores.get(f"queries to {100 * _STOLEN:g} %")
    return None if score is None else score.value


def _cheapest(thieves: Sequence[Record]) -> Record | None:
    able = [r for r in thieves if _needed(r) is not None]
    return min(able, key=lambda r: _needed(r) or 0.0, default=None)


def _shield(record: Record) -> str:
    text = str(record.threat.get("countermeasure", "none"))
    return "" if text == "none" else text


def _broken(shield: str) -> str:
    """Return the text with its options below its name."""
    return shield.replace(":", "\n").replace(",", "\n").replace("+", "\n+ ")


def _lines(seen: Mapping[str, Json]) -> Iterator[str]:
    """Yield the findings, several a line."""
    if "stopped" in seen:
        yield f"stopped: {seen['stopped']}"
        return
    words = [f"{name}: {value}" for name, value in fingerprint_words(seen)]
    yield "; ".join(words)
