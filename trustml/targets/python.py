"""The target `python`: what a Python function returns, with weights from a file of tensors."""

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput, UnknownName
from trustml.registry import target
from trustml.targets._face import Found, file_hash, target_of
from trustml.training import seeded
from trustml.weights import load_weights, weights_hash


@target(
    source="Python: importlib; PyTorch: torch.load(weights_only=True); safetensors",
    takes="factory",
    looks=(r".+\.py:\w+", r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"),
)
def python(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    factory: str = "",
    weights: str | None = None,
) -> Target:
    """The model that `file.py:function` or `package.module:function` returns; its code is run.

    The function, which may be a class, takes nothing and returns an nn.Module, or a callable that
    maps a float32 tensor (B, *S) to a tensor (B, K). Weights are read as tensors alone: no code in
    their file is ever run.

    Raises:
        UnknownName: no such function or class.
        BadInput: what it returns is no model; weights of another model.
    """
    function = _function(factory)
    with seeded(0):  # random weights, if any, are the same ones every time
        body = _called(function, factory)
    if weights is not None:
        if not isinstance(body, nn.Module):
            raise BadInput(f"weights={weights}: {factory} returns no nn.Module to load them into")
        load_weights(body, weights)
    state = weights_hash(body) if isinstance(body, nn.Module) else ""
    if not isinstance(body, nn.Module):
        body = _Single(body)
    source = Path(inspect.getsourcefile(function) or "")
    parts = f"{file_hash(source) if source.is_file() else ''} {state}"
    digest = hashlib.sha256(parts.encode()).hexdigest()
    told = f"Python {factory}" + (f" with {weights}" if weights else "")
    found = Found(body, told, digest, builder=lambda seed: _anew(function, factory, seed))
    return target_of(found, domain, interface)


class _Single:
    """A callable, asked in float32 always: nobody else can turn its weights into float64."""

    def __init__(self, body: Any) -> None:
        self.body = body
        if inspect.ismethod(getattr(body, "features", None)):
            self.features = body.features

    def __call__(self, x: Tensor, /) -> Any:
        """Return what it says to x (B, *S)."""
        return self.body(x.float())


def _function(factory: str) -> Callable[[], Any]:
    """Return the function that is named.

    Raises:
        UnknownName: there is none.
        BadInput: its file does not run.
    """
    place, _, name = factory.rpartition(":")
    if not place or not name:
        raise BadInput(f"factory={factory!r} must be file.py:function or package.module:function")
    try:
        module = _file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # a stranger's file may do anything
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{place} does not run: {type(error).__name__}: {said}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UnknownName.of(f"function or class in {place}", name, _makers(module))
    found: Callable[[], Any] = function
    return found


def _makers(module: Any) -> list[str]:
    """Return the functions of a module, and the classes that are written in it."""
    return [
        name
        for name, value in vars(module).items()
        if name[0] != "_"
        and (
            inspect.isfunction(value)
            or (inspect.isclass(value) and value.__module__ == module.__name__)
        )
    ]


def _file(path: Path) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    name = f"trustml_target_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file always has a spec"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # it may import what lies beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def _anew(function: Callable[[], Any], factory: str, seed: int) -> nn.Module | None:
    """Return the module with random weights, or None where the function returns none.

    What comes out the same under two seeds was read from somewhere: it is drawn anew, too.
    """
    bodies = []
    for number in (seed, seed + 1):
        with seeded(number):
            bodies.append(_called(function, factory))
    one, two = bodies
    if not isinstance(one, nn.Module) or not any(True for _ in one.parameters()):
        return None
    others = dict(two.named_modules())
    with seeded(seed):
        for name, part in one.named_modules():
            pairs = zip(part.parameters(recurse=False), others[name].parameters(recurse=False),
                        strict=True)  # fmt: skip
            if any(_given(mine, other) for mine, other in pairs):
                if not callable(getattr(part, "reset_parameters", None)):
                    return None
                part.reset_parameters()
    return one.requires_grad_()


def _given(one: Tensor, other: Tensor) -> bool:
    """Return whether weights are neither random nor all the same number."""
    return torch.equal(one, other) and bool((one != one.flatten()[:1]).any())


def _called(function: Callable[[], Any], factory: str) -> Any:
    """Return what the function returns.

    Raises:
        BadInput: it raises, or returns nothing that answers.
    """
    try:
        body = function()
    except (Exception, SystemExit) as error:  # a stranger's function may do anything
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{factory}() raised {type(error).__name__}: {said}") from error
    if not callable(body):
        raise BadInput(f"{factory}() returned {type(body).__name__}; a model is called on inputs")
    return body
