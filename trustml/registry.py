"""Names → plugins, and option text → typed options.

A plugin is a function under a decorator of its kind. It is found as a file of the kind's room
(`trustml/attacks/pgd.py` holds the attack `pgd`), through an installed package's entry point in the
group `trustml` (then called `package/name`), or in a file given by `--plugin`.
"""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from trustml import contracts
from trustml.catalogue import ROOMS, built_in_names
from trustml.contracts import Access, Kind, Measure, Training
from trustml.corrupting import checked
from trustml.errors import BadInput, UnknownName, UsageError
from trustml.facts import check_facts, shared_options
from trustml.options import Option, options_of
from trustml.threats import guarded

GROUP = "trustml"


@dataclass(frozen=True, slots=True, eq=False)
class Plugin:
    """A method with its name, source and options; `facts` is what its kind declares."""

    kind: str
    name: str
    function: Callable[..., Any]
    source: str
    summary: str
    options: tuple[Option, ...]
    facts: Mapping[str, Any]


_plugins: dict[tuple[str, str], Plugin] = {}
_files: list[ModuleType] = []
_guest_state: dict[EntryPoint, str] = {}
_guest = ""
A = TypeVar("A", bound=contracts.Attack)
At = TypeVar("At", bound=contracts.Attribution)
D = TypeVar("D", bound=contracts.Detector | contracts.FrontEnd)
S = TypeVar("S", bound=contracts.Stealer)
G = TypeVar("G", bound=contracts.Safeguard)
P = TypeVar("P", bound=contracts.Poison)
R = TypeVar("R", bound=contracts.Route)
In = TypeVar("In", bound=contracts.Inspection)
Co = TypeVar("Co", bound=contracts.Corruption)
B = TypeVar("B", bound=contracts.Builder)
L = TypeVar("L", bound=contracts.Loader)
T = TypeVar("T", bound=contracts.Opener)
F = TypeVar("F", bound=Callable[..., Any])


def attack(
    *,
    source: str,
    needs: Access,
    norms: tuple[Measure, ...],
    targeted: bool = True,
    minimum_norm: bool = False,
) -> Callable[[A], A]:
    """Register an attack; each call of it checks first what it is given.

    Args:
        source: the paper, with section or equation.
        needs: the least access that it works with.
        norms: the norms that it knows, and the measures that are none.
        targeted: whether it can aim at a class.
        minimum_norm: whether it looks for the nearest point that wins, whatever the budget.
    """
    facts = {"needs": needs, "norms": norms, "targeted": targeted, "minimum_norm": minimum_norm}
    return lambda function: _register("attack", guarded(function, facts), source, facts)


def attribution(
    *, source: str, needs: Access = Access.GRADIENTS, influence: bool = False
) -> Callable[[At], At]:
    """Register an explanation; `influence` says that it lives in gradient space."""
    facts = {"needs": needs, "influence": influence}
    return lambda function: _register("attribution", function, source, facts)


def detector(*, source: str, reads: tuple[str, ...], front_end: str = "") -> Callable[[D], D]:
    """Register a detector that reads "logits", "features", "draws", "x" or "gradients" of a model.

    A front end returns Outputs → Outputs and stands before a detector, as in `react+energy`;
    `front_end` names the detector that scores after it where none is named.
    """
    facts = {"reads": reads, "front_end": front_end}
    return lambda function: _register("detector", function, source, facts)


def stealer(*, source: str, needs: Access) -> Callable[[S], S]:
    """Register a model-stealing inverter and the least access that it works with."""
    return lambda function: _register("stealer", function, source, {"needs": needs})


def safeguard(
    *, source: str, stage: contracts.Stage, beaten_by: str, does_not_stop: str
) -> Callable[[G], G]:
    """Register a safeguard: what gets past it, and what it leaves open even so."""
    facts = {"stage": stage, "beaten_by": beaten_by, "does_not_stop": does_not_stop}
    return lambda function: _register("safeguard", function, source, facts)


def poison(*, source: str) -> Callable[[P], P]:
    """Register a training-time attack."""
    return lambda function: _register("poison", function, source, {})


def route(*, source: str, via: contracts.Via, knows: str) -> Callable[[R], R]:
    """Register a tampering: what the attacker lays hands on, and must know and be able to do."""
    return lambda function: _register("route", function, source, {"via": via, "knows": knows})


def inspection(*, source: str) -> Callable[[In], In]:
    """Register a search for a backdoor in a given model."""
    return lambda function: _register("inspection", function, source, {})


def corruption(*, source: str) -> Callable[[Co], Co]:
    """Register a corruption; each call of it checks first what it is given."""
    return lambda function: _register("corruption", checked(function), source, {})


def model(*, source: str, training: Training | None = None) -> Callable[[B], B]:
    """Register a builder; `training` is how its models are fitted unless the recipe says more."""
    facts = {"training": training or Training()}
    return lambda function: _register("model", function, source, facts)


def data(*, source: str) -> Callable[[L], L]:
    """Register a dataset."""
    return lambda function: _register("data", function, source, {})


def target(*, source: str, takes: str, looks: tuple[str, ...]) -> Callable[[T], T]:
    """Register a way to reach models: its option `takes` is a text that looks like one of these."""
    return lambda function: _register("target", function, source, {"takes": takes, "looks": looks})


def get(kind: str, name: str) -> Plugin:
    """Return the plugin, importing just what its name points to.

    Raises:
        UnknownName: there is none; the message has the nearest names.
        UsageError: the name points to a package or file that does not load.
    """
    if kind not in ROOMS:
        raise UnknownName.of("kind of plugin", kind, ROOMS)
    if (kind, name) in _plugins:
        return _plugins[kind, name]
    if "/" in name:
        _load_guest_of(name)
    elif name in built_in_names(kind):
        importlib.import_module(f"trustml.{ROOMS[kind]}.{name}")
    if (kind, name) not in _plugins:
        raise UnknownName.of(kind, name, names(kind))
    return _plugins[kind, name]


def names(kind: str) -> list[str]:
    """Return every known name of the kind, built-in first. Guests that do not load are left out."""
    load_guests()
    known = {*built_in_names(kind), *(name for k, name in _plugins if k == kind)}
    return sorted(known, key=lambda name: ("/" in name, name))


def all_of(kind: str) -> list[Plugin]:
    """Return every plugin of the kind."""
    return [get(kind, name) for name in names(kind)]


def guests(kind: str | None = None) -> list[Plugin]:
    """Return the plugins that do not come with trustml: of other packages and `--plugin` files."""
    load_guests()
    return [_plugins[key] for key in sorted(_plugins_of_guests()) if kind in (None, key[0])]


def load_guests() -> dict[str, str]:
    """Import every installed guest package; return package → why it did not load."""
    points = entry_points(group=GROUP)
    return {point.name: reason for point in points if (reason := _load_guest(point))}


def load_file(path: str) -> None:
    """Import a plugin file; its plugins are called by their function names.

    Raises:
        BadInput: there is no such file, it raises when imported, or it registers nothing.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise BadInput(f"--plugin {path}: no such file")
    if any(getattr(module, "__file__", None) == str(file) for module in _files):
        return
    # Two files of one name, in two folders, are two modules.
    name = f"trustml_plugin_{file.stem}" + (f"_{len(_files)}" if _files else "")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise BadInput(f"--plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _registering(""):
            before = len(_plugins_of_guests())
            spec.loader.exec_module(module)
            if len(_plugins_of_guests()) == before:
                raise BadInput("it holds no decorated function (@attack, @detector, …)")
    except (Exception, SystemExit) as error:  # a stranger's file may do anything
        del sys.modules[name]
        raise BadInput(f"--plugin {path}: {_reason(error)}") from error
    _files.append(module)


def _load_guest(point: EntryPoint) -> str:
    """Import one guest once; return "" or why it did not load."""
    if point not in _guest_state:
        try:
            with _registering(point.name):
                point.load()
            _guest_state[point] = ""
        except (Exception, SystemExit) as error:  # a broken guest is named and stops nothing
            _guest_state[point] = _reason(error)
    return _guest_state[point]


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"


def _load_guest_of(name: str) -> None:
    package, points = name.split("/")[0], entry_points(group=GROUP)
    if package not in points.names:
        raise UnknownName.of("plugin package", package, points.names)
    reasons = [why for point in points.select(name=package) if (why := _load_guest(point))]
    if reasons:
        raise UsageError(f"plugin package {package!r} does not load: {'; '.join(reasons)}")


@contextmanager
def _registering(guest: str) -> Iterator[None]:
    """Name plugins `guest/…` inside the block, and forget those of that name if it raises."""
    global _guest
    outer, _guest = _guest, guest
    before = _plugins_of_guests()
    try:
        yield
    except BaseException:
        for kind, name in _plugins_of_guests() - before:
            if name.rpartition("/")[0] == guest:
                del _plugins[kind, name]
        raise
    finally:
        _guest = outer


def _plugins_of_guests() -> set[tuple[str, str]]:
    return {key for key, plugin in _plugins.items() if not _is_ours(plugin.function)}


def _is_ours(function: Callable[..., Any]) -> bool:
    return function.__module__.startswith("trustml.")


def _register(kind: Kind, function: F, source: str, facts: Mapping[str, Any]) -> F:
    name = _prefix(function) + function.__name__
    known = _plugins.get((kind, name))
    theirs = known.function.__module__ if known else ""
    if name in built_in_names(kind):
        theirs = f"trustml.{ROOMS[kind]}.{name}"
    if theirs and theirs != function.__module__:
        raise UsageError(
            f"two {kind}s are named {name!r}, in {theirs} and {function.__module__}: rename one"
        )
    check_facts(f"{kind} {name!r}", function, source, facts)
    summary = (inspect.getdoc(function) or "").splitlines()[0]
    options = options_of(function)
    options += shared_options(kind, facts, {option.name for option in options})
    _plugins[kind, name] = Plugin(kind, name, function, source, summary, options, facts)
    return function


def _prefix(function: Callable[..., Any]) -> str:
    """Return `package/` for a guest package's function, whoever imports it first; else nothing."""
    if _is_ours(function):
        return ""
    top = function.__module__.split(".")[0]
    owners = [p.name for p in entry_points(group=GROUP) if p.module.split(".")[0] == top]
    owner = _guest if _guest in owners or not owners else owners[0]
    return f"{owner}/" if owner else ""
