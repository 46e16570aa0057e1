"""Records → tables on a terminal, at most 100 columns wide, with a verdict in plain words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from trustml.contracts import Json, Record, Score
from trustml.options import split_spec, write
from trustml.recipes import split_recipe

WIDTH, NARROW = 100, 88
_DASH = "–"
_NOISE = "noise of the same budget"
_OTHER = {
    "certificate": "proved\n(no attack can succeed)",
    "all": "all attacks together\n(worst case per input)",
}
Spec = tuple[str, Mapping[str, Json]]


def console() -> Console:
    """Return a console on stdout of at most 100 columns, and at least those that a table needs."""
    own = Console()
    width = max(NARROW, min(WIDTH, own.width)) if own.is_terminal else WIDTH
    # Names and paths may hold square brackets and colons; they are no markup.
    return Console(width=width, highlight=False, markup=False, emoji=False)


def render(records: Iterable[Record]) -> Iterator[RenderableType]:
    """Yield a table for each model and threat, its notes, and its verdict."""
    records = _pooled_first(list(records))
    models = list(dict.fromkeys(record.model for record in records))
    names = dict(zip(models, apart([_spec(model) for model in models]), strict=True))
    for _, rows in groupby(records, key=lambda r: (r.model, r.seed, r.kind == "pooled", r.threat)):
        group = list(rows)
        labels = _labels(group)
        yield _table(group, labels, names[group[0].model])
        yield from (Text(line, style="yellow") for line in _remarks(group, labels))
        yield Text(verdict(group, names[group[0].model]), style="bold")
        yield Text("")


def _pooled_first(records: list[Record]) -> list[Record]:
    """Return the pooled records of each model that has some, else those of its seeds."""
    whole = {record.model for record in records if record.kind == "pooled"}
    return [r for r in records if r.model not in whole or r.kind == "pooled"]


def apart(specs: Sequence[Spec]) -> list[str]:
    """Return each name, with the options in which it differs from others of that name."""
    found = []
    for name, options in specs:
        others = [other for one, other in specs if one == name]
        differ = [key for key in options if any(other.get(key) != options[key] for other in others)]
        words = [f"{key}={_word(options[key])}" for key in differ]
        found.append(f"{name}:{','.join(words)}" if words else name)
    return found


def _spec(model: str) -> Spec:
    """Return the name of a model's recipe, and all options in it as text."""
    parts = [split_spec(part) for part in split_recipe(model)]
    name = "+".join(name for name, _ in parts)
    return name, {key: value for _, raw in parts for key, value in raw.items()}


def _word(value: Json) -> str:
    return value if isinstance(value, str) else write(value)


def _labels(group: list[Record]) -> list[str]:
    """Return what each row is called: an attack that stands twice, with what sets it apart."""
    attacks = [(r.plugin, r.options) for r in group if r.plugin not in _OTHER]
    names = iter(apart(attacks))
    labels = [_OTHER[r.plugin] if r.plugin in _OTHER else next(names) for r in group]
    return [_NOISE if label == "noise" else label for label in labels]


def _remarks(group: list[Record], labels: list[str]) -> list[str]:
    """Return reasons and notes, each once, with the rows that it is about."""
    about: dict[tuple[str, str], list[str]] = {}
    for record, label in zip(group, labels, strict=True):
        for remark in [*([record.reason] if record.reason else []), *record.notes]:
            word = record.status if remark == record.reason else "note"
            about.setdefault((word, remark), []).append(label.split("\n")[0])
    attacks = sum(record.kind == "attack" for record in group)
    return [
        f"{word}: {remark}" if len(rows) >= attacks else f"{word}: {', '.join(rows)}: {remark}"
        for (word, remark), rows in about.items()
    ]


def verdict(group: list[Record], model: str) -> str:
    """Return the group's outcome in a plain sentence."""
    last = group[-1]
    if last.plugin != "all":
        return (
            f"Verdict: none yet, the run was stopped before all attacks on {model} were finished."
        )
    robust = last.scores.get("robust accuracy")
    if robust is None:
        return f"Verdict: {model} was not examined: {last.reason or 'no attack was finished'}."
    clean, far = last.scores["clean accuracy"], last.scores.get(f"median {last.threat['norm']}")
    reads = f"Verdict: {model} reads {_percent(clean.value)} of {_spec(last.data)[0]} rightly"
    if last.threat["whole_box"] and far is not None:
        return f"{reads}; half of them are fooled within {far.value:.4g} in {last.threat['norm']}."
    proved = last.scores.get("certified accuracy")
    known = f", {_percent(proved.value)} proved" if proved else ""
    return (
        f"{reads}; when {_threat(last)}, {_percent(robust.value)} remain{known} (95 % interval "
        f"{_percent(robust.low)} to {_percent(robust.high)}). {_grade(robust, clean)}"
    )


def _grade(robust: Score, clean: Score) -> str:
    if robust.value < 0.5 * clean.value:
        return "Do not rely on it where somebody gains by fooling it."
    if robust.value > 0.9 * clean.value:
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


def _table(group: list[Record], labels: list[str], model: str) -> Table:
    first = group[0]
    aim = "" if first.threat["target"] == "none" else f", aimed at {first.threat['target']}"
    budget = f"{first.threat['norm']} ≤ {first.threat['epsilon']:.4g}"
    seeds = f", mean of {len(first.options['of'])} seeds" if first.kind == "pooled" else ""
    title = f"{model} on {_spec(first.data)[0]}, {budget}{aim}{seeds}"
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
    for record, label in zip(group, labels, strict=True):
        table.add_row(label, *_cells(record), end_section=record is group[-2:][0])
    table.caption = "L0 … Linf: median distance of the fooled inputs; passes: per attacked input"
    table.caption_justify = "left"
    return table


def _cells(record: Record) -> list[str]:
    if record.status != "done":
        return [record.status, *[""] * 8]
    score = record.scores
    proof = record.plugin == "certificate"
    robust = score["certified accuracy" if proof else "robust accuracy"]
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
