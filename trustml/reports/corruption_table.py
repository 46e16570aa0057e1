"""Records of corruptions → a table, and a verdict in plain words."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from trustml.contracts import Record, Score
from trustml.reports.tables import DASH, apart, percent, plain_table, remarks, spec_of

_HEADS = ("1", "2", "3", "4", "5", "error % (95 %)")
_WHOLE = 15


def corruption_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the table of one model's corruptions, their notes, and the verdict."""
    first = group[0]
    seeds = f", mean of {len(first.options['of'])} seeds" if first.kind == "pooled" else ""
    base = first.threat["baseline"]
    against = f", errors over those of {spec_of(base)[0]}" if base else ""
    labels = _labels(group)
    # All of one corruption are that one: its row says it.
    rows = group[:1] if len(group) == 2 and group[-1].plugin == "all" else group
    heads = [*_HEADS, *(["relative\nerror (95 %)"] if base else []), "s"]
    table = plain_table(f"{model} on corrupted {data}{seeds}{against}", "corruption", heads)
    for record, label in zip(rows, labels[: len(rows)], strict=True):
        table.add_row(label, *_cells(record, bool(base)), end_section=record is rows[-2:][0])
    table.caption = "1 to 5: accuracy in % at that severity; error: mean over the five"
    yield table
    yield from remarks(group, labels)
    yield Text(verdict(group, model, data), style="bold")
    yield Text("")


def verdict(group: Sequence[Record], model: str, data: str) -> str:
    """Return what the corruptions cost in a plain sentence."""
    last = group[-1]
    if last.plugin != "all":
        return f"Verdict: none yet, the corruptions of {model} were not all tried."
    if last.status != "done":
        return f"Verdict: none: {last.reason or 'no corruption was finished'}."
    clean, error = last.scores["clean accuracy"], last.scores["corruption error"]
    count = sum(record.plugin != "all" for record in group)
    worst = max(
        (r for r in group if r.status == "done" and r.plugin != "all"),
        key=lambda record: record.scores["corruption error"].value,
    )
    of = "the 15 corruptions" if count == _WHOLE else f"{count} corruptions"
    most = f", most under {worst.plugin}" if count > 1 else ""
    return (
        f"Verdict: {model} reads {percent(clean.value)} of {data} rightly, and errs on "
        f"{percent(error.value)} under {of if count > 1 else worst.plugin} (95 % interval "
        f"{percent(error.low)} to {percent(error.high)}){most}."
    )


def _labels(group: Sequence[Record]) -> list[str]:
    names = iter(apart([(r.plugin, _options(r)) for r in group if r.plugin != "all"]))
    return ["all together" if r.plugin == "all" else next(names) for r in group]


def _options(record: Record) -> dict[str, object]:
    return {name: value for name, value in record.options.items() if name != "of"}


def _cells(record: Record, compared: bool) -> list[str]:
    if record.status != "done":
        return [record.status]
    scores = record.scores
    error, relative = scores["corruption error"], scores.get("relative corruption error")
    return [
        *(f"{100 * scores[f'accuracy at severity {n}'].value:.1f}" for n in range(1, 6)),
        f"{100 * error.value:.1f} ({100 * error.low:.1f}{DASH}{100 * error.high:.1f})",
        *([_ratio(relative) if relative else DASH] if compared else []),
        f"{record.cost.seconds:.2f}",
    ]


def _ratio(score: Score) -> str:
    return f"{score.value:.2f} ({score.low:.2f}{DASH}{score.high:.2f})"
