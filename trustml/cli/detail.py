"""`trustml list KIND NAME`: one plugin with its options, what they mean, and a command to try."""

import inspect
import json
import re
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Union, get_args, get_origin

import click

from trustml import registry
from trustml.catalogue import COUNTERMEASURE, countermeasures
from trustml.cli.example import example
from trustml.cli.lines import say
from trustml.contracts import Access, Interface, Training
from trustml.errors import UnknownName
from trustml.options import Option, write

_TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text"}
_WEIGHTS = {"weights": "file to be read (.safetensors, .pt) instead of training"}


@dataclass(frozen=True, slots=True)
class Word:
    """An option: its name, what may stand there, its default as text, and what it means."""

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Detail:
    """All that a person needs to use one plugin."""

    kind: str
    name: str
    summary: str
    description: str
    source: str
    facts: dict[str, str]
    options: list[Word]
    example: str


def print_detail(kind: str, name: str, as_json: bool) -> None:
    """Print one plugin of a kind.

    Raises:
        UnknownName: there is none of that name.
    """
    found = _countermeasure(name) if kind == COUNTERMEASURE else _plugin(kind, name)
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    click.echo(f"{found.name} ({found.kind})")
    for text in (found.summary, *found.description.split("\n\n")):
        if text:
            say(f"  {text}")
    say(f"  source: {found.source}")
    for fact, value in found.facts.items():
        say(f"  {fact.replace('_', ' ')}: {value}", hang=4)
    click.echo("options:" if found.options else "options: none")
    for option in found.options:
        meaning = f": {option.meaning}" if option.meaning else ""
        say(f"  {option.name}={option.default} ({option.type}){meaning}", hang=6)
    click.echo(f"example:\n  {found.example}")


def _plugin(kind: str, name: str) -> Detail:
    plugin = registry.get(kind, name)
    said = _arguments(inspect.getdoc(plugin.function) or "")
    if kind == "model":
        said = _arguments(inspect.getdoc(Training) or "") | _WEIGHTS | said
    if kind == "target":
        said = _arguments(inspect.getdoc(Interface) or "") | said
    facts = {fact: _words(value) for fact, value in plugin.facts.items() if fact != "training"}
    return Detail(
        kind, plugin.name, plugin.summary, _description(plugin.function), plugin.source,
        {fact: value for fact, value in facts.items() if value},
        _options(plugin.options, said), example(plugin),
    )  # fmt: skip


def _countermeasure(name: str) -> Detail:
    """Return what a service can do against thieves: no plugin, but named with options as these."""
    known = {entry.name: entry for entry in countermeasures()}
    if name not in known:
        raise UnknownName.of(COUNTERMEASURE, name, known)
    entry = known[name]
    options = [Word(word, _like(text), text, "") for word, text in entry.options.items()]
    command = f"trustml bench --stealer auto --countermeasure {name} --model logistic"
    return Detail(COUNTERMEASURE, name, entry.summary, "", entry.source, {}, options, command)


def _like(text: str) -> str:
    """Return in words of what type a default is."""
    if text in ("true", "false"):
        return _TYPES[bool]
    return _TYPES[int] if text.isdecimal() else _TYPES[float]


def _options(options: tuple[Option, ...], said: Mapping[str, str]) -> list[Word]:
    return [
        Word(option.name, _type(option.type), write(option.default), said.get(option.name, ""))
        for option in options
    ]


def _type(kind: Any) -> str:
    """Return in words what may stand for a value of the type."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin is tuple:
        return f"[{_type(parts[0])},…]"
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in parts)
    return "none" if kind is type(None) else _TYPES[kind]


def _words(fact: object) -> str:
    if isinstance(fact, tuple):
        return ", ".join(map(str, fact))
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    return fact.name.lower() if isinstance(fact, Access) else str(fact)


def _description(function: Callable[..., Any]) -> str:
    """Return what a docstring says between its first line and its sections, a line a paragraph."""
    _, _, rest = (inspect.getdoc(function) or "").partition("\n")
    body = re.split(r"^(?:Args|Raises|Returns|Yields):$", rest, flags=re.MULTILINE)[0]
    return "\n\n".join(" ".join(part.split()) for part in body.split("\n\n") if part.strip())


def _arguments(text: str) -> dict[str, str]:
    """Return what the section Args of a docstring says of each name."""
    return dict(_read_arguments(text))


def _read_arguments(text: str) -> Iterator[tuple[str, str]]:
    _, _, rest = text.partition("\nArgs:\n")
    section = re.split(r"^\S", rest, maxsplit=1, flags=re.MULTILINE)[0]
    for part in re.split(r"^    (?=\w)", section, flags=re.MULTILINE):
        name, colon, meaning = part.partition(":")
        if colon:
            yield name.strip(), " ".join(meaning.split())
