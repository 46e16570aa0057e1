"""`trustml list`: what there is, read from the files where that can be done without torch."""

import json
from dataclasses import asdict
from importlib.metadata import entry_points

import click

from trustml.catalogue import (
    COUNTERMEASURE,
    ROOMS,
    Entry,
    built_in,
    built_in_names,
    countermeasures,
)
from trustml.errors import UnknownName

_KINDS = [*ROOMS, COUNTERMEASURE]
# People write both "attack" and "attacks", and what `bench` calls --defense is a safeguard.
_SINGULAR = {
    **{room: name for name, room in ROOMS.items()},
    **{f"{name}s": name for name in _KINDS},
    **dict.fromkeys(("defense", "defence", "defences"), "safeguard"),
}


def print_listing(
    kind: str | None, name: str | None, plugins: tuple[str, ...], as_json: bool
) -> None:
    """Print the plugins of one kind, or of all; or one plugin with all that it can be told.

    Raises:
        UnknownName: there is no such kind, or none of that name.
        BadInput: a plugin file does not load.
    """
    if kind is not None:
        kind = kind_of(kind)
    if kind is not None and name is not None:
        from trustml import registry
        from trustml.cli.detail import print_detail

        for path in plugins:
            registry.load_file(path)
        print_detail(kind, name, as_json)
        return
    kinds = [kind] if kind else _KINDS
    found, failures = _guests(plugins)
    entries = [e for k in kinds for e in [*_own(k), *(g for g in found if g.kind == k)]]
    if as_json:
        for entry in entries:
            click.echo(json.dumps(asdict(entry), ensure_ascii=False))
    else:
        _print(kinds, entries)
    for package, reason in failures.items():
        click.echo(f"Plugin package {package!r} does not load: {reason}", err=True)


def kind_of(text: str) -> str:
    """Return the kind of plugin that the text names, in either number.

    Raises:
        UnknownName: there is none; where the text is a plugin's own name, the message says so.
    """
    kind = text if text in _KINDS else _SINGULAR.get(text, text)
    if kind in _KINDS:
        return kind
    of = [room for room in ROOMS if text in built_in_names(room)]
    if of:
        words = " or ".join(f"trustml list {room} {text}" for room in of)
        raise UnknownName(f"no kind of plugin named {text!r}; that is one of a kind: {words}")
    raise UnknownName.of("kind of plugin", text, _KINDS)


def _own(kind: str) -> list[Entry]:
    return countermeasures() if kind == COUNTERMEASURE else built_in(kind)


def _guests(plugins: tuple[str, ...]) -> tuple[list[Entry], dict[str, str]]:
    if not plugins and not entry_points(group="trustml"):
        return [], {}
    from trustml import registry
    from trustml.options import write

    for path in plugins:
        registry.load_file(path)
    failures = registry.load_guests()
    entries = [
        Entry(
            p.kind, p.name, p.summary, p.source,
            {option.name: write(option.default) for option in p.options},
            {name: _words(fact) for name, fact in p.facts.items()},
        )
        for p in registry.guests()
    ]  # fmt: skip
    return entries, failures


def _words(fact: object) -> str:
    if isinstance(fact, tuple):
        return " ".join(map(str, fact))
    name = getattr(fact, "name", None)
    return (
        str(name).lower() if name else str(fact).replace("True", "true").replace("False", "false")
    )


def _print(kinds: list[str], entries: list[Entry]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    screen = Console(width=100, highlight=False)
    for kind in kinds:
        mine = [entry for entry in entries if entry.kind == kind]
        screen.print(Text(f"{kind} ({len(mine)})", style="bold"))
        for entry in mine:
            screen.print(Text(f"  {entry.name}", style="cyan"))
            for line in _lines(entry):
                screen.print(Padding(Text(line), (0, 0, 0, 6), expand=False))


def _lines(entry: Entry) -> list[str]:
    options = ", ".join(f"{name}={value}" for name, value in entry.options.items())
    facts = ", ".join(f"{name}: {value}" for name, value in entry.facts.items() if value)
    lines = [entry.summary, f"source: {entry.source}", facts, options and f"options: {options}"]
    return [line for line in lines if line]
