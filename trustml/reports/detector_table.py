"""Records of detectors → tables: errors foretold, outsiders told apart, calibration, a verdict."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trustml.benchmarks.slipped import PASSED
from trustml.contracts import Record, Score
from trustml.reports.tables import DASH, apart, percent, plain_table, remarks

_BASE = "errors: base rate"
_CHANCE = 0.5  # the AUROC of a blind score
_NARROW = 0.02  # an interval of which tenths of a per cent are told
# Of the last table: its columns, and which end of each is the least favourable one.
_HARDEST: tuple[tuple[str, str, Callable[..., Score]], ...] = (
    ("AUROC\n%", "auroc", min),
    ("FPR95\nout %", "fpr95_positive_out", max),
    ("FPR95\nin %", "fpr95_positive_in", max),
    ("gate\nstops %", "stopped", min),
)
_ERRORS = (
    ("AUROC\n%", "auroc"),
    ("AUPR\nerror %", "aupr_error"),
    ("FPR95\nerror %", "fpr95_positive_error"),
    ("AURC\n%", "aurc"),
)


def detector_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the tables of one model's detectors, their notes, and the verdict."""
    if group[0].kind == "pooled":
        data = f"{data}, mean of {len(group[0].options['of'])} seeds"
    for record in group:
        if record.plugin == "calibration":
            yield Text(_calibration(record, f"{model} on {data}"))
    rows = [record for record in group if record.plugin != "calibration"]
    labels = apart([(record.plugin, record.options) for record in rows])
    yield _errors(rows, labels, f"{model} on {data}: errors foretold")
    sets = sets_of(rows)
    if sets:
        yield _outside(rows, labels, sets, f"{model}: outsiders told apart")
        yield _worst(rows, labels, f"{model}: each detector on the set that is hardest for it")
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
    if score.value <= _CHANCE:
        return f"Verdict: {_blind(best, label, len(able))}"
    stopped = {name: best.scores[f"{name}: stopped"] for name in sets_of([best])}
    hardest = min(stopped, key=lambda name: stopped[name].value)
    first = f"{label} is the surest: AUROC" if len(able) > 1 else f"{label} has an AUROC of"
    doubt = "" if score.low > _CHANCE else ", which may be chance"
    sets = f"each of {len(stopped)} sets" if len(stopped) > 1 else hardest
    hard = f"{hardest}, the hardest for it" if len(stopped) > 1 else hardest
    return (
        f"Verdict: {first} {percent(score.value)}{' or more' * (len(stopped) > 1)} on {sets}"
        f"{doubt}. Stopping {percent(alarms.value)} of ordinary inputs, its gate stops "
        f"{percent(stopped[hardest].value)} of {hard}.{_knowing(best)}"
    )


def _blind(best: Record, label: str, count: int) -> str:
    """Return that not even the best detector can be relied on, and where it fails."""
    reached = {name: best.scores[f"{name}: auroc"].value for name in sets_of([best])}
    worst = min(reached, key=lambda name: reached[name])
    said = f"AUROC of {percent(reached[worst])}"
    if count == 1:
        return f"{label} is not better than chance on {worst}: it has an {said}."
    sets = "every set" if len(reached) > 1 else worst
    return (
        f"none of the {count} detectors is better than chance on {sets}: the best, {label}, has "
        f"an {said} on {worst}."
    )


def _knowing(record: Record) -> str:
    """Return what an attack that knows the detector gets past it."""
    found = [score.value for name, score in record.scores.items() if name.endswith(PASSED)]
    if not found:
        return ""
    return f" An attack that knows it has {percent(max(found))} misread and accepted."


def _calibration(record: Record, title: str) -> str:
    if record.status != "done":
        return f"{title}: calibration {record.status}: {record.reason}"
    s = record.scores
    return (
        f"{title}: accuracy {percent(s['accuracy'].value)}, calibration error (ECE) "
        f"{percent(s['ece'].value)}, after temperature scaling {percent(s['scaled: ece'].value)}; "
        f"90 % prediction sets hold the class {percent(s['sets: coverage'].value)} of the time "
        f"with {s['sets: mean_size'].value:.2f} classes.{_elsewhere(s)}"
    )


def _elsewhere(scores: Mapping[str, Score]) -> str:
    """Return how the model reads other sets that show its classes."""
    end = ": accuracy"
    found = {name.removesuffix(end): s for name, s in scores.items() if name.endswith(end)}
    said = ", ".join(f"{percent(score.value)} of {name}" for name, score in found.items())
    return f" It reads {said} rightly." if found else ""


def _errors(rows: Sequence[Record], labels: Sequence[str], title: str) -> Table:
    table = plain_table(title, "detector", [head for head, _ in _ERRORS] + ["false\nalarms %", "s"])
    for record, label in zip(rows, labels, strict=True):
        if record.status != "done":
            table.add_row(label, record.status)
            continue
        found = [record.scores.get(f"errors: {metric}") for _, metric in _ERRORS]
        alarms = _short(record.scores["false alarms"])
        # The risk of what is accepted is small where a model is good: two digits tell more.
        cells = [*map(_short, found[:3]), _short(found[3], 2)]
        table.add_row(label, *cells, alarms, f"{record.cost.seconds:.2f}")
    share = next((r.scores[_BASE].value for r in rows if _BASE in r.scores), None)
    table.caption = "positive class of AUPR and FPR95: wrong answers;\nin brackets: 95 % interval"
    if share is not None:
        table.caption += f"; AUPR of a blind score: {percent(share)}"
    return table


def _outside(
    rows: Sequence[Record], labels: Sequence[str], sets: Sequence[str], title: str
) -> Table:
    table = plain_table(title, "detector", ["worst\nof all", *(_head(name) for name in sets)])
    for record, label in zip(rows, labels, strict=True):
        if record.status != "done":
            continue
        cells = [_short(record.scores.get(f"{name}: auroc")) for name in sets]
        table.add_row(label, _short(record.scores.get("worst auroc")), *cells)
    table.caption = "AUROC %: 50 is blind, 100 tells all apart;\nin brackets: 95 % interval"
    return table


def _worst(rows: Sequence[Record], labels: Sequence[str], title: str) -> Table:
    """Return the table of the least favourable figure of each kind over all sets."""
    aware = list(dict.fromkeys(n for r in rows for n in r.scores if n.endswith(PASSED)))
    heads = [head for head, _, _ in _HARDEST] + [_head(name.removesuffix(PASSED)) for name in aware]
    table = plain_table(title, "detector", heads)
    for record, label in zip(rows, labels, strict=True):
        if record.status == "done":
            found = [_hardest(record, metric, pick) for _, metric, pick in _HARDEST]
            found += [record.scores.get(name) for name in aware]
            table.add_row(label, *map(_short, found))
    table.caption = (
        "FPR95 out: share of inside flagged when 95 % of the set are;\n"
        "FPR95 in: share of the set accepted when 95 % of inside are;\n"
        "gate: stopped at the threshold from validation data; in brackets: 95 % interval"
    )
    if aware:
        table.caption += ";\naware: misread and accepted, after an attack that knows the detector"
    return table


def _hardest(record: Record, metric: str, pick: Callable[..., Score]) -> Score | None:
    """Return the score of the set that `pick` takes by value, if there is any set."""
    found = [record.scores[f"{name}: {metric}"] for name in sets_of([record])]
    return pick(found, key=lambda score: score.value) if found else None


def _head(name: str) -> str:
    return "\n".join(re.split("[ _:,]", name))


def _short(score: Score | None, digits: int = 1) -> str:
    """Return a share in per cent and its interval, whose ends are rounded outwards."""
    if score is None:
        return DASH
    fine = 10 if score.high - score.low < _NARROW else 1
    low, high = math.floor(100 * fine * score.low) / fine, math.ceil(100 * fine * score.high) / fine
    return f"{100 * score.value:.{digits}f} ({low:g}{DASH}{high:g})"
