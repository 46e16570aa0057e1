"""The command that makes a run again."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from trustml.benchmarks.batch_rows import AUTO
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.reach import heeds
from trustml.contracts import Record
from trustml.options import write

Budgets = Mapping[str, tuple[float, ...]]

# Where the command's word is not the plan's: lists are named one by one.
_WORDS = {
    "attributions": "attribution",
    "attacks": "attack",
    "corruptions": "corruption",
    "countermeasures": "countermeasure",
    "defenses": "defense",
    "detectors": "detector",
    "epsilons": "epsilon",
    "figures": "figure",
    "inspections": "inspection",
    "models": "model",
    "norms": "norm",
    "outside": "ood",
    "plugins": "plugin",
    "poisons": "poison",
    "routes": "route",
    "stealers": "stealer",
    "surrogates": "surrogate",
}


# What a plan asks for beside attacks: one command of several asks for it.
_BESIDE = (
    "attributions", "figures", "stealers", "terms", "countermeasures", "copy", "routes", "poisons",
    "defenses", "inspections", "corruptions", "corruption_baseline", "controls", "controls_of",
)  # fmt: skip
_OF_DETECTORS = ("detectors", "outside", "false_alarms")


def commands(plan: Plan, budgets: Budgets) -> list[str]:
    """Return the commands that make the plan's cases again, with budgets that its data chose.

    That is one command; or one for each norm, where their budgets differ and so have no common
    `--epsilon`.

    Args:
        plan: of the run.
        budgets: norm → the epsilons of its cases, as `budgets_of` finds them.
    """
    asked = plan.norms if plan.attacks or plan.aware else ()
    given = [budgets.get(norm, ()) for norm in asked]
    if plan.epsilons or plan.curve or not given:
        return [command(plan)]
    if len(set(given)) == 1:
        return [command(replace(plan, epsilons=given[0]))]
    first, *others = (
        replace(plan, norms=(norm,), epsilons=epsilons)
        for norm, epsilons in zip(asked, given, strict=True)
    )
    names = _BESIDE if plan.aware else (*_BESIDE, *_OF_DETECTORS)
    nothing: dict[str, Any] = {f.name: f.default for f in fields(Plan) if f.name in names}
    return [command(first), *(command(replace(other, **nothing)) for other in others)]


def budgets_of(records: Iterable[Record]) -> dict[str, tuple[float, ...]]:
    """Return the epsilons that the records say of each norm, in order."""
    found: dict[str, dict[float, None]] = {}
    for record in records:
        pairs = [(norm, epsilon) for norm, epsilon in record.threat.get("aware", ())]
        if "norm" in record.threat and not record.threat.get("whole_box"):
            pairs.append((record.threat["norm"], record.threat["epsilon"]))
        for norm, epsilon in pairs:
            found.setdefault(norm, {})[float(epsilon)] = None
    return {norm: tuple(epsilons) for norm, epsilons in found.items()}


def command(plan: Plan) -> str:
    """Return the `trustml bench` that makes the plan's run again, one option a line."""
    parts = " \\\n  ".join(shlex.join(words) for words in _options(plan))
    return f"trustml bench {parts}" if parts else "trustml bench"


def word_of(name: str) -> str:
    """Return the option, without its dashes, that sets a field of the plan."""
    return _WORDS.get(name, name.replace("_", "-"))


def _options(plan: Plan) -> Iterator[list[str]]:
    for field in fields(plan):
        value, word = getattr(plan, field.name), f"--{word_of(field.name)}"
        # The norm is said wherever it counts: its default may follow from the attacks.
        said = field.name == "norms" and (plan.attacks or plan.aware)
        if value == field.default and not said:
            continue
        # An audit's sections share a plan, of which each heeds some.
        if not heeds(plan, field.name):
            continue
        if (field.name, value) == ("batch_size", AUTO):
            yield [word, "auto"]
        elif field.name == "shard":
            yield [word, "/".join(map(str, value))]
        elif isinstance(value, bool):
            yield [word if value else f"--no-{word_of(field.name)}"]
        elif isinstance(value, tuple):
            yield from ([word, _text(each)] for each in value)
        else:
            yield [word, _text(value)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else write(value)
