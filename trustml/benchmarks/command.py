"""The command that makes a run again."""

import shlex
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from trustml.benchmarks.batch_rows import AUTO
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.reach import heeds
from trustml.options import write

# Where the command's word is not the plan's: lists are named one by one.
_WORDS = {
    "attributions": "attribution",
    "attacks": "attack",
    "corruptions": "corruption",
    "countermeasures": "countermeasure",
    "defenses": "defense",
    "detectors": "detector",
    "epsilons": "epsilon",
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
        if value == field.default:
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
