"""What a plugin declares beside its name, checked before it is taken in."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from trustml.catalogue import ROOMS
from trustml.contracts import Interface, Kind, Measure, Stage, Via
from trustml.errors import UnknownName, UsageError
from trustml.options import Option, training_options

_LISTS = {"stage": get_args(Stage), "via": get_args(Via)}
_TOLD = ("beaten_by", "does_not_stop", "knows")

assert set(ROOMS) == set(get_args(Kind))


def check_facts(
    plugin: str, function: Callable[..., Any], source: str, facts: Mapping[str, Any]
) -> None:
    """Refuse a plugin that does not say where it comes from, what it does, or what its limits are.

    Args:
        plugin: its kind and name, for the message.
        function: with its docstring.
        source: the paper.
        facts: what its decorator was given.

    Raises:
        UnknownName: a stage, way in or norm that there is not.
        UsageError: a source, docstring or limit that is not told.
    """
    if not source.strip() or not (inspect.getdoc(function) or "").strip():
        raise UsageError(f"{plugin} needs a source in its decorator and a docstring")
    for word, allowed in _LISTS.items():
        if word in facts and facts[word] not in allowed:
            raise UnknownName.of(f"{word}, declared by {plugin},", facts[word], allowed)
    for word in _TOLD:
        if word in facts and not facts[word].strip():
            raise UsageError(f"{plugin} needs {word}= in its decorator: say it in words")
    for norm in facts.get("norms", ()):
        if norm not in get_args(Measure):
            raise UnknownName.of(f"norm, declared by {plugin},", norm, get_args(Measure))


def shared_options(kind: str, facts: Mapping[str, Any], taken: set[str]) -> tuple[Option, ...]:
    """Return the options that every plugin of the kind has, beside its own, which are `taken`.

    Raises:
        UsageError: the plugin has one of its own by such a name.
    """
    if kind == "target":
        return _interface_options(taken)
    return training_options(facts["training"], taken) if "training" in facts else ()


def _interface_options(taken: set[str]) -> tuple[Option, ...]:
    """Return the options that every target has: what a deployed model takes and answers.

    Raises:
        UsageError: the target has one of its own by such a name, among those `taken`.
    """
    hints = get_type_hints(Interface)
    if clash := taken & set(hints):
        raise UsageError(
            f"a target cannot have options of its own named {', '.join(sorted(clash))}"
        )
    return tuple(Option(f.name, hints[f.name], f.default) for f in fields(Interface))
