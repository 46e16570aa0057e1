"""What plugins there are, read from the files without running them: no torch, so it is quick."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMS = {
    "data": "data",
    "model": "models",
    "attack": "attacks",
    "attribution": "attributions",
    "detector": "detectors",
    "stealer": "stealing",
    "safeguard": "defenses",
    "poison": "poisoning",
}
# What the harness fills in; never an option.
GIVEN = frozenset({"random", "folder"})


@dataclass(frozen=True, slots=True)
class Entry:
    """A plugin as its file states it; `options` and `facts` are source text."""

    kind: str
    name: str
    summary: str
    source: str
    options: dict[str, str]
    facts: dict[str, str]


def built_in(kind: str) -> list[Entry]:
    """Return the plugins that come with trustml, by name."""
    return sorted(_entries(kind), key=lambda entry: entry.name)


def built_in_names(kind: str) -> list[str]:
    """Return their names alone, from the file names."""
    room = Path(__file__).parent / ROOMS[kind]
    return sorted(file.stem for file in room.glob("*.py") if not file.name.startswith("_"))


def _entries(kind: str) -> Iterator[Entry]:
    room = Path(__file__).parent / ROOMS[kind]
    for name in built_in_names(kind):
        for node in ast.parse((room / f"{name}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                yield from (_entry(kind, node, call) for call in _decorators(kind, node))


def _decorators(kind: str, node: ast.FunctionDef) -> list[ast.Call]:
    calls = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == kind]


def _entry(kind: str, node: ast.FunctionDef, call: ast.Call) -> Entry:
    facts = {word.arg: word.value for word in call.keywords if word.arg}
    source = facts.pop("source")
    options = {
        argument.arg: ast.unparse(default)
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if argument.arg not in GIVEN and default is not None
    }
    return Entry(
        kind,
        node.name,
        (ast.get_docstring(node) or "").splitlines()[0],
        str(ast.literal_eval(source)),
        options,
        {name: _plain(value) for name, value in facts.items()},
    )


def _plain(value: ast.expr) -> str:
    """Return a declared fact in words: `Access.GRADIENTS` → gradients, a tuple → its parts."""
    if isinstance(value, ast.Attribute):
        return value.attr.lower()
    if isinstance(value, ast.Tuple):
        return " ".join(_plain(part) for part in value.elts)
    if isinstance(value, ast.Constant):
        return str(value.value).lower() if isinstance(value.value, bool) else str(value.value)
    return ast.unparse(value)
