"""`trustml list attacks --like foolbox.LinfPGD`: what other libraries' attacks are called here."""

import json
from dataclasses import asdict

import click

from trustml.errors import BadOption
from trustml.peers import Likeness, like


def print_likeness(kind: str | None, name: str, as_json: bool) -> None:
    """Print what the attack of another library is called here.

    Raises:
        BadOption: the listing is of something else than attacks.
        UnknownName: no such library or attack.
    """
    if kind not in (None, "attack", "attacks"):
        raise BadOption(f"--like is about attacks, not {kind}: trustml list attacks --like {name}")
    for entry in like(name):
        if as_json:
            facts = {**asdict(entry), "command": entry.command}
            click.echo(json.dumps(facts, ensure_ascii=False))
        else:
            click.echo("\n".join(_lines(entry)))


def _lines(entry: Likeness) -> list[str]:
    there = "" if entry.kind == "attack" else f" (a {entry.kind})"
    head = f"{entry.library}.{entry.name} → {entry.use or 'none'}{there if entry.use else ''}"
    said = entry.note if entry.use else "; ".join(
        part for part in (entry.none, entry.near and f"nearest: {entry.near}") if part
    )  # fmt: skip
    return [head, *(f"  {line}" for line in (entry.command, said) if line)]
