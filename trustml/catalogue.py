"""What plugins there are, read from the files without running them: no torch, so it is quick."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trustml.options import GIVEN, write

HOME = Path(__file__).parent
ROOMS = {
    "data": "data",
    "model": "models",
    "attack": "attacks",
    "attribution": "attributions",
    "detector": "detectors",
    "stealer": "stealing",
    "safeguard": "defenses",
    "poison": "poisoning",
    "route": "routes",
    "inspection": "inspections",
    "target": "targets",
    "corruption": "corruptions",
}
COUNTERMEASURE = "countermeasure"
Words = dict[str, ast.expr]


@dataclass(frozen=True, slots=True)
class Entry:
    """A plugin as its file states it; `options` are text that reads back, `facts` plain words."""

    kind: str
    name: str
    summary: str
    source: str
    options: dict[str, str]
    facts: dict[str, str]


def built_in(kind: str) -> list[Entry]:
    """Return the plugins that come with trustml, by name."""
    return sorted(_entries(kind), key=lambda entry: entry.name)


def countermeasures() -> list[Entry]:
    """Return what a service can do against thieves: no plugins, but named with options as these."""
    body = _body("countering.py")
    made = _constants(body)["_MADE"]
    assert isinstance(made, ast.Dict), "it is a table of names and functions"
    names = {v.id: k.value for k, v in zip(made.keys, made.values, strict=True)
             if isinstance(k, ast.Constant) and isinstance(v, ast.Name)}  # fmt: skip
    return [
        Entry(
            COUNTERMEASURE, str(names[node.name]), ast.get_docstring(node) or "",
            "trustml/countermeasures.py",
            {name: _text(word) for name, word in _defaults(node).items()}, {},
        )
        for node in body if isinstance(node, ast.FunctionDef) and node.name in names
    ]  # fmt: skip


def built_in_names(kind: str) -> list[str]:
    """Return their names alone, from the file names."""
    room = HOME / ROOMS[kind]
    return sorted(file.stem for file in room.glob("*.py") if not file.name.startswith("_"))


def _entries(kind: str) -> Iterator[Entry]:
    for name in built_in_names(kind):
        body = _body(f"{ROOMS[kind]}/{name}.py")
        constants = _constants(body)
        for node in body:
            if isinstance(node, ast.FunctionDef):
                for call in _decorators(kind, node):
                    yield _entry(kind, node, call, constants)


def _decorators(kind: str, node: ast.FunctionDef) -> list[ast.Call]:
    calls = [mark for mark in node.decorator_list if isinstance(mark, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == kind]


def _entry(kind: str, node: ast.FunctionDef, call: ast.Call, constants: Words) -> Entry:
    said = _defaults(_decorator(kind)) | _keywords(call)
    said = {name: _resolved(word, constants) for name, word in said.items()}
    source = said.pop("source")
    order = [argument.arg for argument in _decorator(kind).args.kwonlyargs]
    facts = {name: said[name] for name in order if name in said}
    options = {name: word for name, word in _defaults(node).items() if name not in GIVEN}
    if "training" in facts:
        options |= _training(facts.pop("training"))
    if kind == "target":
        options |= _fields("Interface")
    return Entry(
        kind,
        node.name,
        (ast.get_docstring(node) or "").splitlines()[0],
        str(ast.literal_eval(source)),
        {name: _text(_resolved(word, constants)) for name, word in options.items()},
        {name: _plain(word) for name, word in facts.items()},
    )


def _body(path: str) -> list[ast.stmt]:
    return ast.parse((HOME / path).read_text(encoding="utf-8")).body


def _constants(body: list[ast.stmt]) -> Words:
    """Return the values of the names that a file gives at its top."""
    found: Words = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and node.value and isinstance(node.target, ast.Name):
            found[node.target.id] = node.value
    return found


def _resolved(word: ast.expr, constants: Words) -> ast.expr:
    """Return what a name of the file's top, or an entry of a table there, stands for."""
    if isinstance(word, ast.Name):
        return constants.get(word.id, word)
    if isinstance(word, ast.Subscript) and isinstance(word.slice, ast.Constant):
        table = _resolved(word.value, constants)
        if isinstance(table, ast.Dict):
            keys = [key.value for key in table.keys if isinstance(key, ast.Constant)]
            if len(keys) == len(table.keys) and word.slice.value in keys:
                return table.values[keys.index(word.slice.value)]
    return word


def _keywords(call: ast.Call) -> Words:
    return {word.arg: word.value for word in call.keywords if word.arg}


def _defaults(node: ast.FunctionDef) -> Words:
    """Return the keyword-only parameters that have a default, with it."""
    pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {argument.arg: default for argument, default in pairs if default is not None}


@cache
def _decorator(kind: str) -> ast.FunctionDef:
    """Return the kind's decorator in the registry; its defaults hold where a plugin is silent."""
    functions = [node for node in _body("registry.py") if isinstance(node, ast.FunctionDef)]
    return next(node for node in functions if node.name == kind)


def _training(given: ast.expr) -> Words:
    """Return the options that every model has: how it is fitted, or a file with its weights."""
    own = _keywords(given) if isinstance(given, ast.Call) else {}
    return {**_fields("Training"), **own, "weights": ast.Constant(None)}


def _fields(name: str) -> Words:
    """Return the fields of a dataclass of the contracts, with their defaults."""
    classes = [node for node in _body("contracts.py") if isinstance(node, ast.ClassDef)]
    return _constants(next(node.body for node in classes if node.name == name))


def _text(word: ast.expr) -> str:
    """Return a default as a person would write it: `(64, 32)` → [64,32], `8 / 255` as it stands."""
    try:
        return write(ast.literal_eval(word))
    except ValueError:
        return ast.unparse(word)


def _plain(word: ast.expr) -> str:
    """Return a declared fact in words: `Access.GRADIENTS` → gradients, a tuple → its parts."""
    if isinstance(word, ast.Attribute):
        return word.attr.lower()
    if isinstance(word, ast.Tuple):
        return " ".join(_plain(part) for part in word.elts)
    if isinstance(word, ast.Constant):
        return str(word.value).lower() if isinstance(word.value, bool) else str(word.value)
    return ast.unparse(word)
