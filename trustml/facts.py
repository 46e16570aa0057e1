"""What a plugin declares beside its name, checked before it is taken in."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from trustml.contracts import Norm, Stage, Via
from trustml.errors import UnknownName, UsageError

_LISTS = {"stage": get_args(Stage), "via": get_args(Via)}
_TOLD = ("beaten_by", "does_not_stop", "knows")


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
        if norm not in get_args(Norm):
            raise UnknownName.of(f"norm, declared by {plugin},", norm, get_args(Norm))
