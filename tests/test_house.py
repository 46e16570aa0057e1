"""The rules of the house: floors, silence between rooms, libraries in their rooms, plain files."""

import ast
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

from trustml.catalogue import ROOMS
from trustml.registry import get

HOME = Path(__file__).resolve().parent.parent
PACKAGE = HOME / "trustml"

# Lower floors never import from higher ones. Rooms (folders) on one floor do not see each other;
# single modules may, as long as they do so in one direction.
FLOORS = (
    ("contracts", "errors"),
    (
        "access", "affine", "asking", "baselines", "bpda", "catalogue", "convolutions",
        "corrupting", "countering", "countermeasures", "crossings", "deployment", "facts", "files",
        "fingerprint", "geometry", "grid", "images", "ledger", "options", "oracle", "passes",
        "peers", "precision", "progress", "provenance", "randomness", "recipes", "records",
        "registry", "replay", "splits", "symmetry", "threats", "victim",
    ),
    (
        "bayes", "beyond", "bootstrap", "bounds", "calibration", "chains", "confidence",
        "conformal", "fitted", "gate", "guarding", "measures", "metrics", "partners", "promotion",
        "ranks", "separation", "store", "training", "weights",
    ),
    (
        "attacks", "attributions", "corruptions", "data", "detectors", "models", "poisoning",
        "stealing", "targets",
    ),
    ("defenses", "inspections", "routes"),
    ("benchmarks",),
    ("audit",),
    ("reports",),
    ("cli", "__main__"),
    ("conformance",),
)  # fmt: skip
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# A library that one room speaks to, so that nobody else depends on its ways.
ONE_ROOM = {
    "captum": {"attributions"},
    "click": {"cli"},
    "matplotlib": {"reports"},
    "torchvision": {"data", "models"},
}
# What costs start-up time is imported by the function that needs it. Exceptions: torch, and in the
# reports, which the command line imports only once it has something to show.
LATE = {
    "captum", "keras", "matplotlib", "onnx", "onnxruntime", "ray", "rich", "scipy", "sklearn",
    "torchmetrics", "torchvision",
}  # fmt: skip
SHAPELESS_NAMES = {"utils", "util", "helpers", "helper", "base", "manager", "misc", "common"}
LEFT_OVER = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X")))

LONGEST_FUNCTION = 60
LONGEST_FILE = 300
ONE_LIST = Path("contracts.py")  # every noun and verb on one page: declarations, no code


@dataclass(frozen=True)
class Module:
    """A file of the package: where it lies, what it says, and its syntax tree."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The room's name, or that of a module that lies beside the rooms."""
        return self.path.parts[0] if len(self.path.parts) > 1 else self.path.stem

    @property
    def is_room(self) -> bool:
        return len(self.path.parts) > 1


@cache
def modules() -> tuple[Module, ...]:
    """Every file of the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return tuple(Module(file.relative_to(PACKAGE), file.read_text("utf-8")) for file in files)


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import, at any depth, `import_module("…")` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            named = node.args[0] if node.args else None
            if isinstance(named, ast.Constant):
                yield node.lineno, str(named.value)


def rooms_seen(module: Module) -> Iterator[tuple[int, str]]:
    """Yield (line, room) of each import from the package itself."""
    for line, name in imports(module.tree):
        top, _, rest = name.partition(".")
        if top == "trustml" and rest:
            yield line, rest.split(".")[0]


def functions(tree: ast.AST, public: bool = False) -> Iterator[ast.FunctionDef]:
    """Yield every function and method, or those that a reader from outside may call."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        if public and (not named or node.name.startswith("_")):
            continue
        if isinstance(node, ast.FunctionDef):
            yield node
        if not (public and isinstance(node, ast.FunctionDef)):
            yield from functions(node, public)


def unknown_room(module: Module) -> Iterator[str]:
    """A file in no known room."""
    if module.room not in FLOOR and module.path != Path("__init__.py"):
        yield f"{module.room} has no floor"


def looks_up(module: Module) -> Iterator[str]:
    """An import from a higher floor, or from another room on the same floor."""
    mine = FLOOR.get(module.room, 0)
    for line, room in rooms_seen(module):
        if room == module.room and module.is_room:
            continue
        theirs = FLOOR.get(room, -1)
        if theirs > mine or (theirs == mine and module.is_room):
            yield f"line {line}: floor {mine} imports {room} of floor {theirs}"


def library_elsewhere(module: Module) -> Iterator[str]:
    """A one-room library in another room."""
    for line, name in imports(module.tree):
        rooms = ONE_ROOM.get(name.split(".")[0])
        if rooms and module.room not in rooms:
            yield f"line {line}: {name} belongs in {' or '.join(sorted(rooms))}"


def slow_start(module: Module) -> Iterator[str]:
    """A heavy library imported when the file is."""
    for statement in module.tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom) and module.room != "reports":
            for line, name in imports(statement):
                if name.split(".")[0] in LATE:
                    yield f"line {line}: import {name} inside the function that needs it"


def prints(module: Module) -> Iterator[str]:
    """A print outside the command line."""
    for node in ast.walk(module.tree):
        called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if called == "print" and module.room != "cli":
            yield f"line {node.lineno}: print"


def no_docstring(module: Module) -> Iterator[str]:
    """A file that does not open with a docstring."""
    if not ast.get_docstring(module.tree):
        yield "no docstring"


def full_init(module: Module) -> Iterator[str]:
    """An `__init__.py` with more than its docstring."""
    if module.path.name == "__init__.py" and len(module.tree.body) > 1:
        yield "an __init__.py holds one docstring, nothing else"


def shapeless_name(module: Module) -> Iterator[str]:
    """A file name that says nothing."""
    if SHAPELESS_NAMES & set(module.path.stem.strip("_").split("_")):
        yield f"{module.path.stem} says nothing about what is inside"


def swallowed(module: Module) -> Iterator[str]:
    """An except that takes everything, or that takes any Exception and passes."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else ""
        idle = all(isinstance(statement, ast.Pass) for statement in node.body)
        if not caught or (idle and caught in ("Exception", "BaseException")):
            yield f"line {node.lineno}: except {caught}".rstrip()


def too_long(module: Module) -> Iterator[str]:
    """A function or file over the limit."""
    lines = len(module.text.splitlines())
    if lines > LONGEST_FILE and module.path != ONE_LIST:
        yield f"{lines} lines; {LONGEST_FILE} at most"
    for node in functions(module.tree):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > LONGEST_FUNCTION:
            yield f"line {node.lineno}: {node.name} has {length} lines"


def raises_unsaid(module: Module) -> Iterator[str]:
    """A public function that raises and whose docstring has no `Raises:`."""
    for node in functions(module.tree, public=True):
        raised = any(isinstance(part, ast.Raise) and part.exc for part in _own_nodes(node))
        if raised and "Raises:" not in (ast.get_docstring(node) or ""):
            yield f"line {node.lineno}: {node.name} raises and does not say so"


def inherits(module: Module) -> Iterator[str]:
    """A class built on a class of ours that is neither a Protocol nor an error: wrap instead."""
    ours = {n.name for n in ast.walk(module.tree) if isinstance(n, ast.ClassDef)}
    for node in ast.walk(module.tree):
        source = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        if source.startswith("trustml.") and source != "trustml.errors":
            ours |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and module.path != Path("errors.py"):
            bases = {ast.unparse(base) for base in node.bases}
            if bases & ours and "Protocol" not in bases:
                yield f"line {node.lineno}: {node.name} inherits from {', '.join(bases & ours)}"


def left_over(module: Module) -> Iterator[str]:
    """A note that something is still to be done."""
    for number, line in enumerate(module.text.splitlines(), 1):
        if LEFT_OVER.search(line):
            yield f"line {number}: {line.strip()}"


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions inside it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from _own_nodes(node)


# Each rule with a file that breaks it, so that a rule which has gone blind is seen.
RULES: dict[Callable[[Module], Iterator[str]], tuple[str, str]] = {
    unknown_room: ("cellar/wine.py", ""),
    looks_up: ("attacks/pgd.py", "def f():\n    from trustml.data.digits import digits"),
    library_elsewhere: ("attacks/pgd.py", "def f():\n    import matplotlib.pyplot as plt"),
    slow_start: ("models/logistic.py", "from sklearn.linear_model import LogisticRegression"),
    prints: ("attacks/pgd.py", "print('here')"),
    no_docstring: ("attacks/pgd.py", "import torch"),
    full_init: ("attacks/__init__.py", '"""Attacks."""\nfrom trustml.attacks.pgd import pgd'),
    shapeless_name: ("attacks/_loss_utils.py", ""),
    swallowed: ("attacks/pgd.py", "try:\n    f()\nexcept Exception:\n    pass"),
    too_long: ("attacks/pgd.py", "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION),
    raises_unsaid: ("attacks/pgd.py", 'def f():\n    """Return."""\n    raise ValueError(1)'),
    inherits: ("models/deep.py", "from trustml.models.mlp import MLP\nclass Deep(MLP): ..."),
    left_over: ("attacks/pgd.py", "# TO" + "DO: the rest"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[[Module], Iterator[str]]) -> None:
    broken = [f"trustml/{m.path}: {what}" for m in modules() for what in rule(m)]
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_can_fail(rule: Callable[[Module], Iterator[str]]) -> None:
    path, text = RULES[rule]
    assert list(rule(Module(Path(path), textwrap.dedent(text))))


def test_modules_beside_the_rooms_import_each_other_in_one_direction() -> None:
    """Depth-first: meeting a module that is still open means a circle."""
    seen: dict[str, set[str]] = {}
    for module in modules():
        if not module.is_room:
            seen[module.room] = {room for _, room in rooms_seen(module)} - {module.room}
    closed: set[str] = set()

    def visit(name: str, open_: tuple[str, ...]) -> None:
        assert name not in open_, "a circle of imports: " + " → ".join((*open_, name))
        if name not in closed:
            for other in seen.get(name, ()):
                visit(other, (*open_, name))
            closed.add(name)

    for name in seen:
        visit(name, ())


@pytest.mark.parametrize("kind", ROOMS)
def test_every_file_of_a_plugin_room_is_a_plugin_of_its_name(kind: str) -> None:
    """`ls trustml/attacks` is the catalogue: looking a file's name up finds what the file holds."""
    for name in sorted(m.path.stem for m in modules() if m.path.parts[0] == ROOMS[kind]):
        if not name.startswith("_"):
            plugin = get(kind, name)
            assert plugin.function.__module__ == f"trustml.{ROOMS[kind]}.{name}"


def test_tests_lie_in_the_rooms_that_they_test() -> None:
    folders = {path.parent.relative_to(HOME / "tests") for path in HOME.glob("tests/**/test_*.py")}
    strange = {str(folder) for folder in folders if folder.parts and folder.parts[0] not in FLOOR}
    assert not strange, f"tests/ has folders of no room: {strange}"
