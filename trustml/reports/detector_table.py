"""Records of detectors → tables: errors foretold, outsiders told apart, calibration, a verdict."""

from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trustml.contracts import Record, Score
from trustml.reports.tables import DASH, apart, percent, plain_table, remarks

# Columns of one set's figures fit so many times into 100.
_SETS = 6
_ERRORS = (
    ("AUROC\n%", "auroc"),
    ("AUPR\nerror %", "aupr_error"),
    ("FPR95\nerror %", "fpr95_positive_error"),
    ("AURC\n%", "aurc"),
)


def detector_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the tables of one model's detectors, their notes, and the verdict."""
    for record in group:
        if record.plugin == "calibration":
            yield Text(_calibration(record, f"{model} on {data}"))
    rows = [record for record in group if record.plugin != "calibration"]
    labels = apart([(record.plugin, record.options) for record in rows])
    yield _errors(rows, labels, f"{model} on {data}: errors foretold")
    sets = sets_of(rows)
    for start in range(0, len(sets), _SETS):
        yield _outside(rows, labels, sets[start : start + _SETS], f"{model}: outsiders told apart")
    yield from remarks(rows, labels)
    yield Text(verdict(rows, labels), style="bold")
    yield Text("")


def sets_of(records: Iterable[Record]) -> list[str]:
    """Return the sets that the records have an AUROC of, in order."""
    names = [name.removesuffix(": auroc") for r in records for name in r.scores]
    known = [name for r in records for name in r.scores if name.endswith(": auroc")]
    found = [name for name in names if f"{name}: auroc" in known and name != "errors"]
    return list(dict.fromkeys(found))


def verdict(rows: Sequence[Record], labels: Sequence[str]) -> str:
    """Return which detector can be relied on most, in a plain sentence."""
    able = [(r, label) for r, label in zip(rows, labels, strict=True) if "worst auroc" in r.scores]
    if not able:
        return "Verdict: no detector was examined against anything from outside."
    best, label = max(able, key=lambda pair: pair[0].scores["worst auroc"].value)
    score, alarms = best.scores["worst auroc"], best.scores["false alarms"]
    stopped = {name: best.scores[f"{name}: stopped"] for name in sets_of([best])}
    hardest = min(stopped, key=lambda name: stopped[name].value)
    return (
        f"Verdict: {label} is the surest: AUROC {percent(score.value)} or more on each of "
        f"{len(stopped)} sets. Stopping {percent(alarms.value)} of ordinary inputs, its gate stops "
        f"{percent(stopped[hardest].value)} of {hardest}, the hardest for it."
    )


def _calibration(record: Record, title: str) -> str:
    if record.status != "done":
        return f"{title}: calibration {record.status}: {record.reason}"
    s = record.scores
    return (
        f"{title}: accuracy {percent(s['accuracy'].value)}, calibration error (ECE) "
        f"{percent(s['ece'].value)}, after temperature scaling {percent(s['scaled: ece'].value)}; "
        f"90 % prediction sets hold the class {percent(s['sets: coverage'].value)} of the time "
        f"with {s['sets: mean_size'].value:.2f} classes."
    )


def _errors(rows: Sequence[Record], labels: Sequence[str], title: str) -> Table:
    table = plain_table(title, "detector", [head for head, _ in _ERRORS] + ["false\nalarms %", "s"])
    for record, label in zip(rows, labels, strict=True):
        if record.status != "done":
            table.add_row(label, record.status)
            continue
        found = [record.scores.get(f"errors: {metric}") for _, metric in _ERRORS]
        cells = [*(_cell(score) for score in found[:2]), *(_short(score) for score in found[2:])]
        alarms = _short(record.scores["false alarms"])
        table.add_row(label, *cells, alarms, f"{record.cost.seconds:.2f}")
    table.caption = (
        "positive class of AUPR and FPR95: wrong answers; 95 % interval, or half its width"
    )
    return table


def _outside(
    rows: Sequence[Record], labels: Sequence[str], sets: Sequence[str], title: str
) -> Table:
    table = plain_table(title, "detector", [*(_head(name) for name in sets), "worst\nof all"])
    for record, label in zip(rows, labels, strict=True):
        if record.status != "done":
            continue
        cells = [_short(record.scores.get(f"{name}: auroc")) for name in sets]
        table.add_row(label, *cells, _short(record.scores.get("worst auroc")))
    table.caption = "AUROC %: 50 is blind, 100 tells all apart;\n± half of the 95 % interval"
    return table


def _head(name: str) -> str:
    return "\n".join(name.replace("_", " ").split(" "))


def _cell(score: Score | None) -> str:
    if score is None:
        return DASH
    return f"{100 * score.value:.1f} ({100 * score.low:.1f}{DASH}{100 * score.high:.1f})"


def _short(score: Score | None) -> str:
    return f"{100 * score.value:.1f} ±{50 * (score.high - score.low):.1f}" if score else DASH
