"""Records → tables on a terminal, at most 100 columns wide, with a verdict in plain words."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from trustml.contracts import Record, Score

WIDTH, NARROW = 100, 88
_DASH = "–"
_LABELS = {
    "noise": "noise of the same budget",
    "all": "all attacks together\n(worst case per input)",
}


def console() -> Console:
    """Return a console on stdout of at most 100 columns, and at least those that a table needs."""
    own = Console()
    width = max(NARROW, min(WIDTH, own.width)) if own.is_terminal else WIDTH
    return Console(width=width, highlight=False)


def render(records: Iterable[Record]) -> Iterator[RenderableType]:
    """Yield a table for each model and threat, its notes, and its verdict."""
    for _, rows in groupby(records, key=lambda r: (r.model, r.threat["norm"], r.threat["epsilon"])):
        group = list(rows)
        yield _table(group)
        yield from (Text(line, style="yellow") for line in _remarks(group))
        yield Text(verdict(group), style="bold")
        yield Text("")


def _remarks(group: list[Record]) -> list[str]:
    """Return reasons and notes, each once, with the rows that it is about."""
    about: dict[tuple[str, str], list[str]] = {}
    for record in group:
        for remark in [*([record.reason] if record.reason else []), *record.notes]:
            word = record.status if remark == record.reason else "note"
            about.setdefault((word, remark), []).append(_name(record))
    attacks = sum(record.kind == "attack" for record in group)
    return [
        f"{word}: {remark}" if len(rows) >= attacks else f"{word}: {', '.join(rows)}: {remark}"
        for (word, remark), rows in about.items()
    ]


def verdict(group: list[Record]) -> str:
    """Return the group's outcome in a plain sentence."""
    last = group[-1]
    robust = last.scores.get("robust accuracy")
    model, data = short(last.model), short(last.data)
    if robust is None:
        return f"Verdict: {model} was not examined: no attack was finished."
    clean, far = last.scores["clean accuracy"], last.scores.get(f"median {last.threat['norm']}")
    reads = f"Verdict: {model} reads {_percent(clean.value)} of {data} rightly"
    if last.threat["whole_box"] and far is not None:
        return f"{reads}; half of them are fooled within {far.value:.4g} in {last.threat['norm']}."
    return (
        f"{reads}; when {_threat(last)}, {_percent(robust.value)} remain (95 % interval "
        f"{_percent(robust.low)} to {_percent(robust.high)}). {_grade(robust, clean)}"
    )


def short(text: str) -> str:
    """Return a spec without its options."""
    return "+".join(part.split(":")[0] for part in text.split("+"))


def label(record: Record) -> str:
    """Return what the row is called in a table."""
    return _LABELS.get(record.plugin, _name(record))


def _name(record: Record) -> str:
    return (
        record.case.split("-", 1)[-1].split("-", 1)[-1].split("-", 1)[-1]
        if record.case
        else record.plugin
    )


def _grade(robust: Score, clean: Score) -> str:
    if robust.high < 0.5 * clean.value:
        return "Do not rely on it where somebody gains by fooling it."
    if robust.low > 0.9 * clean.value:
        return "These attacks hardly move it; stronger ones may."
    return "It withstands these attacks in part."


def _threat(record: Record) -> str:
    words = {
        "linf": "every entry may move by up to {}",
        "l2": "an input may move by up to {} in L2",
        "l1": "an input may move by up to {} in L1",
        "l0": "up to {} entries may change",
    }
    return words[record.threat["norm"]].format(f"{record.threat['epsilon']:.4g}")


def _table(group: list[Record]) -> Table:
    first = group[0]
    aim = "" if first.threat["target"] == "none" else f", aimed at {first.threat['target']}"
    budget = f"{first.threat['norm']} ≤ {first.threat['epsilon']:.4g}"
    title = f"{short(first.model)} on {short(first.data)}, {budget}{aim}"
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("attack", min_width=12)
    for name in (
        "clean\n%",
        "robust % (95 %)",
        "success\n%",
        "L0",
        "L1",
        "L2",
        "Linf",
        "passes\nfwd+bwd",
        "s",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for record in group:
        table.add_row(label(record), *_cells(record), end_section=record is group[-2])
    table.caption = "L0 … Linf: median distance of the fooled inputs; passes: per attacked input"
    table.caption_justify = "left"
    return table


def _cells(record: Record) -> list[str]:
    if record.status != "done":
        return [record.status, *[""] * 8]
    score = record.scores
    robust = score["robust accuracy"]
    interval = f"{100 * robust.value:.1f} ({100 * robust.low:.1f}{_DASH}{100 * robust.high:.1f})"
    success = score.get("attack success")
    distances = [score.get(f"median {norm}") for norm in ("l0", "l1", "l2", "linf")]
    return [
        f"{100 * score['clean accuracy'].value:.1f}",
        interval,
        f"{100 * success.value:.1f}" if success else _DASH,
        *(_number(far.value) if far else _DASH for far in distances),
        f"{record.cost.forwards:.0f}+{record.cost.backwards:.0f}",
        f"{record.cost.seconds:.2f}",
    ]


def _number(value: float) -> str:
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
