"""Option text → typed values: `name:key=value,key=value`, read by the parameter's type.

`8/255` is a number; `[64,32]` a list; `none`, `true` and `false` are what they say.
"""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from trustml.catalogue import GIVEN
from trustml.errors import BadOption, UnknownName, UsageError

READABLE = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword-only parameter of a plugin."""

    name: str
    type: Any
    default: Any


def options_of(function: Callable[..., Any]) -> tuple[Option, ...]:
    """Return the options of a plugin, from its signature.

    Raises:
        UsageError: an option without a default or without a type that text can be read as.
    """
    hints = get_type_hints(function)
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or name in GIVEN:
            continue
        if parameter.default is inspect.Parameter.empty:
            raise UsageError(f"{function.__name__}: option {name!r} needs a default")
        if not _readable(hints.get(name)):
            raise UsageError(
                f"{function.__name__}: option {name!r} needs a type of int, float, bool, str, "
                f"Literal, tuple or None"
            )
        found.append(Option(name, hints[name], parameter.default))
    return tuple(found)


def split_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split `name:key=value,key=[a,b]` into the name and its raw options.

    Raises:
        BadOption: no name, an option without `=`, or one that stands twice.
    """
    name, _, rest = text.strip().partition(":")
    if not name:
        raise BadOption(f"{text!r} has no name; write name or name:key=value,key=value")
    raw: dict[str, str] = {}
    for part in split_outside_brackets(rest, ","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise BadOption(f"{text!r}: {part!r} is not key=value")
        if key.strip() in raw:
            raise BadOption(f"{text!r}: option {key.strip()!r} stands twice")
        raw[key.strip()] = value.strip()
    return name, raw


def read_options(owner: str, options: Sequence[Option], raw: Mapping[str, str]) -> dict[str, Any]:
    """Return every option with its value, defaults filled in.

    Raises:
        UnknownName: an option that the owner does not have.
        BadOption: a value that is not of the option's type.
    """
    known = {option.name: option for option in options}
    for name in raw:
        if name not in known:
            raise UnknownName.of(f"option of {owner}", name, known)
    return {
        name: read(raw[name], option.type, f"{owner}:{name}") if name in raw else option.default
        for name, option in known.items()
    }


def read(text: str, kind: Any, where: str) -> Any:
    """Return the value that `text` stands for.

    Raises:
        BadOption: it is not of that type.
    """
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(text, kind, where)
    if origin is Literal:
        for allowed in get_args(kind):
            if str(allowed) == text:
                return allowed
        raise UnknownName.of(f"value of {where}", text, map(str, get_args(kind)))
    if origin is tuple:
        parts = split_outside_brackets(text.removeprefix("[").removesuffix("]"), ",")
        return tuple(read(part.strip(), get_args(kind)[0], where) for part in parts)
    return _read_plain(text, kind, where)


def write(value: Any) -> str:
    """Return the text that `read` gives back as `value`."""
    if isinstance(value, tuple | list):
        return f"[{','.join(write(part) for part in value)}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)


def spec_text(name: str, options: Mapping[str, Any]) -> str:
    """Return `name:key=value,…`, the text that reads back as these options."""
    body = ",".join(f"{key}={write(value)}" for key, value in options.items())
    return f"{name}:{body}" if body else name


def number(text: str) -> float:
    """Return the finite number that `text` stands for; `8/255` is one.

    Raises:
        ValueError: it is not a number, or not a finite one.
    """
    top, slash, bottom = text.partition("/")
    value = float(top) / float(bottom) if slash and float(bottom) else float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def split_outside_brackets(text: str, mark: str) -> list[str]:
    """Split at `mark`, but not inside square brackets; empty text gives no part."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == mark and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]] if text.strip() else []


def _read_plain(text: str, kind: Any, where: str) -> Any:
    if kind is str:
        return text
    if kind is bool and text.lower() in ("true", "false", "yes", "no", "1", "0"):
        return text.lower() in ("true", "yes", "1")
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return number(text)
    except ValueError:
        pass
    raise BadOption(f"{where}={text!r} is not {_type_name(kind)}")


def _read_union(text: str, kind: Any, where: str) -> Any:
    choices = get_args(kind)
    if type(None) in choices and text.lower() == "none":
        return None
    rest = [choice for choice in choices if choice is not type(None)]
    for choice in rest:
        try:
            return read(text, choice, where)
        except (BadOption, UnknownName):
            if choice is rest[-1] and len(rest) == 1:
                raise
    raise BadOption(f"{where}={text!r} is not {' or '.join(map(_type_name, choices))}")


def _readable(kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return all(_readable(choice) for choice in get_args(kind))
    if origin is Literal:
        return True
    if origin is tuple:
        return (
            len(get_args(kind)) == 2 and get_args(kind)[1] is ... and _readable(get_args(kind)[0])
        )
    return kind in READABLE


def _type_name(kind: Any) -> str:
    names = {int: "a whole number", float: "a finite number", bool: "true or false"}
    if kind is type(None):
        return "none"
    return names.get(kind, getattr(kind, "__name__", str(kind)))
