"""Records of inspections → a table, and a verdict in plain words."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from trustml.contracts import Record, Score
from trustml.options import split_spec
from trustml.reports.tables import DASH, apart, number, percent, plain_table, remarks

_HEADS = (
    "accu-\nracy %", "trigger\nworks %", "alarm", "p", "class", "devia-\ntions", "target\nnamed",
    "AUROC % (95 %)", "s",
)  # fmt: skip


def inspection_tables(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the table of one model's inspections, their notes, and the verdict."""
    first = group[0]
    seeds = f", {len(first.options['of'])} seeds" if first.kind == "pooled" else ""
    facts = first.threat
    title = (
        f"backdoors looked for in {model} on {data}{seeds}, beside {facts['controls']} honest "
        f"models"
    )
    labels = _labels(group)
    table = plain_table(title, "inspection", _HEADS)
    for record, label in zip(group, labels, strict=True):
        table.add_row(label, *(_cells(record) if record.status == "done" else [record.status]))
    table.caption = (
        f"alarm: p at most {facts['false alarms']:g}; p: share of honest models as odd;\n"
        "AUROC: the poisoned ones against the honest ones; class and deviations: of the oddest"
    )
    yield table
    yield from remarks(group, labels)
    yield Text(verdict(group, labels), style="bold")
    yield Text("")


def verdict(group: Sequence[Record], labels: Sequence[str]) -> str:
    """Return what the inspections found in plain words."""
    names = [" ".join(label.split()) for label in labels]
    done = [(r, name) for r, name in zip(group, names, strict=True) if r.status == "done"]
    if not done:
        return "Verdict: nothing was inspected."
    rate = percent(group[0].threat["false alarms"])
    if group[0].kind == "pooled":
        parts = [f"{label} {percent(r.scores['alarm'].value)}" for r, label in done]
        return f"Verdict: alarms at a rate of {rate} for honest models: {', '.join(parts)}."
    alarms = [label for r, label in done if r.scores["alarm raised"].value > 0]
    quiet = [label for r, label in done if not r.scores["alarm raised"].value]
    said = [f"alarm by {', '.join(alarms)}"] if alarms else []
    said += [f"no alarm by {', '.join(quiet)}"] if quiet else []
    return (
        f"Verdict: {'; '.join(said)}. {rate} of honest models raise one with each inspection, and "
        f"no alarm is no proof."
    )


def _labels(group: Sequence[Record]) -> list[str]:
    """Return what each row is called: the inspection, then what was planted in the model."""
    poisons = [_poison(record) for record in group]
    looks = apart([(r.plugin, {k: v for k, v in r.options.items() if k not in ("poison", "of")})
                   for r in group])  # fmt: skip
    return [
        look if poison == "none" else f"{look}\n  of {split_spec(poison)[0]}"
        for look, poison in zip(looks, poisons, strict=True)
    ]


def _poison(record: Record) -> str:
    if record.kind == "pooled":
        return record.case.rpartition("-of-")[2]
    return str(record.options["poison"])


def _cells(record: Record) -> list[str]:
    scores = record.scores
    over = record.kind == "pooled"
    alarm = scores["alarm raised"]
    said = f"{_range(alarm)}" if over else ("yes" if alarm.value else "no")
    named, auroc, works = (scores.get(name) for name in ("target named", "auroc", "trigger works"))
    return [
        percent(scores["accuracy"].value).removesuffix(" %") if "accuracy" in scores else DASH,
        percent(works.value).removesuffix(" %") if works else DASH,
        said,
        number(scores["p value"].value),
        DASH if over else f"{scores['oddest class'].value:.0f}",
        number(scores["deviations"].value),
        DASH if named is None else _range(named) if over else ("yes" if named.value else "no"),
        _range(auroc) if auroc else DASH,
        f"{record.cost.seconds:.1f}",
    ]


def _range(score: Score) -> str:
    return f"{100 * score.value:.0f} ({100 * score.low:.0f}{DASH}{100 * score.high:.0f})"
