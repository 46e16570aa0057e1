"""Option text → typed values: `name:key=value,key=value`, read by the parameter's type.

`8/255` is a number; `[64,32]` a list; `none`, `true` and `false` are what they say. A text with a
comma, a plus or a bracket in it stands in double quotes, as in JSON: `csv:path="a,b.csv"`.
"""

import inspect
import json
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from trustml.errors import BadOption, UnknownName, UsageError

if TYPE_CHECKING:  # it brings torch along, which `trustml list` can do without
    from trustml.contracts import Training

READABLE = (bool, int, float, str, type(None))
# What the harness fills in; never an option.
GIVEN = frozenset({"random", "folder"})
_MARKS = frozenset(',+[]"')
_WORDS = ("none", "true", "false")


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword-only parameter of a plugin."""

    name: str
    type: Any
    default: Any


def options_of(function: Callable[..., Any]) -> tuple[Option, ...]:
    """Return the options of a plugin, from its signature.

    Raises:
        UsageError: an option without a default, without a type that text can be read as, or with a
            default that its own text does not give back (infinity, say).
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
        _check_default(function.__name__, found[-1])
    return tuple(found)


def training_options(training: "Training", taken: set[str]) -> tuple[Option, ...]:
    """Return the options that every model has: how it is fitted, or a file with its weights.

    Raises:
        UsageError: the builder has one of its own by such a name, among those `taken`.
    """
    clash = taken & {"weights", *(field.name for field in fields(training))}
    if clash:
        raise UsageError(f"a model cannot have options of its own named {', '.join(sorted(clash))}")
    fitted = tuple(
        Option(field.name, field.type, getattr(training, field.name)) for field in fields(training)
    )
    return (*fitted, Option("weights", str | None, None))


def split_spec(text: str) -> tuple[str, dict[str, str]]:
    """Split `name:key=value,key=[a,b]` into the name and its raw options.

    Raises:
        BadOption: no name, an option without `=`, one that stands twice, a lone bracket or quote.
    """
    name, _, rest = text.strip().partition(":")
    if not name.strip():
        raise BadOption(f"{text!r} has no name; write name or name:key=value,key=value")
    raw: dict[str, str] = {}
    for part in split_at(rest, ","):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            raise BadOption(f"{text!r}: {part!r} is not key=value")
        if key.strip() in raw:
            raise BadOption(f"{text!r}: option {key.strip()!r} stands twice")
        raw[key.strip()] = value.strip()
    return name.strip(), raw


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
            if text in (str(allowed), write(allowed)):
                return allowed
        raise UnknownName.of(f"value of {where}", text, map(str, get_args(kind)))
    if origin is tuple:
        parts = split_at(_inside(text), ",")
        return tuple(read(part.strip(), get_args(kind)[0], where) for part in parts)
    return _read_plain(text, kind, where)


def write(value: Any) -> str:
    """Return the text that `read` gives back as `value`."""
    if isinstance(value, tuple | list):
        return f"[{','.join(write(part) for part in value)}]"
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if _needs_quotes(value) else value
    return repr(value)


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


def split_at(text: str, mark: str) -> list[str]:
    """Split at each `mark` that is outside brackets and quotes; empty text gives no part.

    Raises:
        BadOption: a bracket or a quote has no partner.
    """
    if not text.strip():
        return []
    ends = [*places_outside(text, mark), len(text)]
    starts = [0, *(end + 1 for end in ends)]
    return [text[start:end] for start, end in zip(starts, ends, strict=False)]


def places_outside(text: str, mark: str) -> Iterator[int]:
    """Yield where `mark` stands outside brackets and quotes.

    Raises:
        BadOption: a bracket or a quote has no partner.
    """
    depth, quoted, escaped = 0, False, False
    for place, letter in enumerate(text):
        if quoted:
            quoted = letter != '"' or escaped
            escaped = letter == "\\" and not escaped
            continue
        quoted = letter == '"'
        depth += (letter == "[") - (letter == "]")
        if depth < 0:
            break
        if letter == mark and depth == 0:
            yield place
    if depth or quoted:
        raise BadOption(f"{text!r}: a {'quote' if quoted else 'bracket'} has no partner")


def _check_default(owner: str, option: Option) -> None:
    text = write(option.default)
    try:
        same = read(text, option.type, option.name) == option.default
    except (BadOption, UnknownName):
        same = False
    if not same:
        raise UsageError(
            f"{owner}: the default of option {option.name!r} is {option.default!r}, which its type "
            f"cannot be read back as from the text {text}"
        )


def _inside(text: str) -> str:
    """Return a list's text without the brackets around the whole of it."""
    if not (text.startswith("[") and text.endswith("]")):
        return text
    try:
        list(places_outside(text[1:-1], ","))
    except BadOption:  # the first bracket and the last are no pair
        return text
    return text[1:-1]


def _needs_quotes(text: str) -> bool:
    """Return whether the bare text would be read as something else."""
    if not text or text != text.strip() or _MARKS & set(text) or not text.isprintable():
        return True
    try:
        return text.lower() in _WORDS or math.isfinite(number(text))
    except ValueError:
        return False


def _read_plain(text: str, kind: Any, where: str) -> Any:
    if kind is str:
        return _unquoted(text, where)
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


def _unquoted(text: str, where: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise BadOption(f"{where}={text} is not a text in double quotes ({error})") from error
    return str(plain)


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
