"""Records → tables on a terminal, at most 100 columns wide, with a verdict in plain words."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from trustml.contracts import Record, Score
from trustml.reports.corruption_table import corruption_tables
from trustml.reports.detector_table import detector_tables
from trustml.reports.explanation_table import explanation_tables
from trustml.reports.inspection_table import inspection_tables
from trustml.reports.route_table import route_tables
from trustml.reports.service_table import countermeasure_tables, service_tables
from trustml.reports.tables import DASH, apart, number, percent, plain_table, remarks, spec_of
from trustml.reports.theft_table import theft_tables
from trustml.reports.threat_words import allowed, distance_heads

Tables = Callable[[Sequence[Record], str, str], Iterator[RenderableType]]
_NOISE = "noise of the same budget"
_OTHER = {
    "certificate": "proved\n(no attack can succeed)",
    "all": "all attacks together\n(worst case per input)",
}

# Which tables a group of records makes, by a fact of what was examined.
_TABLES: dict[str, Tables] = {
    "outside": detector_tables,
    "explained": explanation_tables,
    "safeguards": route_tables,
    "seen": service_tables,
    "victim": theft_tables,
    "controls": inspection_tables,
    "corruptions": corruption_tables,
}


def render(records: Iterable[Record]) -> Iterator[RenderableType]:
    """Yield a table for each model, seed and threat, its notes, and its verdict."""
    records = _pooled_first(list(records))
    models = list(dict.fromkeys(record.model for record in records))
    names = dict(zip(models, apart([spec_of(model) for model in models]), strict=True))
    for _, rows in groupby(records, key=lambda r: (r.model, r.seed, r.kind == "pooled", r.threat)):
        group = list(rows)
        tables = next((t for fact, t in _TABLES.items() if fact in group[0].threat), attack_table)
        yield from tables(group, names[group[0].model], spec_of(group[0].data)[0])
    yield from countermeasure_tables(records)


def attack_table(group: Sequence[Record], model: str, data: str) -> Iterator[RenderableType]:
    """Yield the table of one threat, its notes and its verdict."""
    labels = _labels(group)
    # All of one attack are that one: its row says it.
    alone = sum(record.plugin not in _OTHER for record in group) == 1
    rows = group[:-1] if alone and group[-1].plugin == "all" else group
    yield _table(rows, labels[: len(rows)], model, data)
    yield from remarks(group, labels)
    yield Text(verdict(group, model), style="bold")
    yield Text("")


def _pooled_first(records: list[Record]) -> list[Record]:
    """Return the pooled records of each model that has some, else those of its seeds."""
    whole = {record.model for record in records if record.kind == "pooled"}
    return [r for r in records if r.model not in whole or r.kind == "pooled"]


def _labels(group: Sequence[Record]) -> list[str]:
    """Return what each row is called: an attack that stands twice, with what sets it apart."""
    attacks = [(r.plugin, r.options) for r in group if r.plugin not in _OTHER]
    names = iter(apart(attacks))
    labels = [_OTHER[r.plugin] if r.plugin in _OTHER else next(names) for r in group]
    return [_NOISE if label == "noise" else label for label in labels]


def verdict(group: Sequence[Record], model: str) -> str:
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
    reads = f"Verdict: {model} reads {percent(clean.value)} of {spec_of(last.data)[0]} rightly"
    if last.threat["whole_box"] and far is not None:
        return f"{reads}; half of them are fooled within {far.value:.4g} in {last.threat['norm']}."
    proved = last.scores.get("certified accuracy")
    known = f", and {percent(proved.value)} are proved to" if proved else ""
    return (
        f"{reads}; when {_threat(last)}, {percent(robust.value)} remain (95 % interval "
        f"{percent(robust.low)} to {percent(robust.high)}){known}. {_grade(robust, clean)}"
    )


def _grade(robust: Score, clean: Score) -> str:
    if clean.value == 0:
        return "It reads nothing rightly, so that there is nothing to attack."
    if robust.value < 0.5 * clean.value:
        return "Do not rely on it where somebody gains by fooling it."
    if robust.value > 0.9 * clean.value:
        return "These attacks hardly move it; stronger ones may."
    return "It withstands these attacks in part."


def _threat(record: Record) -> str:
    moved = allowed(record.threat)
    moved += f", in {grid} steps" if (grid := record.threat.get("grid")) else ""
    target = str(record.threat.get("target", "none"))
    if target != "none":
        moved += ", towards the next class" if target == "next" else f", towards class {target}"
    lent = record.threat.get("surrogates")
    return f"{moved}, by attacks that see {_listed(lent)} instead" if lent else moved


def _table(group: Sequence[Record], labels: Sequence[str], model: str, data: str) -> Table:
    first = group[0]
    aim = "" if first.threat["target"] == "none" else f", aimed at {first.threat['target']}"
    budget = f"{first.threat['norm']} ≤ {first.threat['epsilon']:.4g}"
    budget += f" in {grid} steps" if (grid := first.threat.get("grid")) else ""
    lent = first.threat.get("surrogates", ())
    budget += f", transferred from {_listed(lent)}" if lent else ""
    seeds = f", mean of {len(first.options['of'])} seeds" if first.kind == "pooled" else ""
    far, said = distance_heads(first.threat["norm"])
    heads = ["clean\n%", "robust % (95 %)", "success\n%", *far.values()]
    table = plain_table(
        f"{model} on {data}, {budget}{aim}{seeds}", "attack", [*heads, "passes\nfwd+bwd", "s"]
    )
    for record, label in zip(group, labels, strict=True):
        table.add_row(label, *_cells(record, list(far)), end_section=record is group[-2:][0])
    table.caption = f"{said}; passes: per attacked input"
    return table


def _listed(recipes: Sequence[str]) -> str:
    """Return the recipes by their names, with the options that set them apart."""
    return " and ".join(apart([spec_of(recipe) for recipe in recipes]))


def _cells(record: Record, norms: Sequence[str]) -> list[str]:
    if record.status != "done":
        return [record.status]
    score = record.scores
    proof = record.plugin == "certificate"
    robust = score["certified accuracy" if proof else "robust accuracy"]
    interval = f"{100 * robust.value:.1f} ({100 * robust.low:.1f}{DASH}{100 * robust.high:.1f})"
    success = score.get("attack success")
    distances = [score.get(f"median {norm}") for norm in norms]
    return [
        f"{100 * score['clean accuracy'].value:.1f}",
        interval,
        f"{100 * success.value:.1f}" if success else DASH,
        *(number(far.value) if far else DASH for far in distances),
        f"{record.cost.forwards:.0f}+{record.cost.backwards:.0f}",
        f"{record.cost.seconds:.2f}",
    ]
