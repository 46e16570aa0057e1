"""A classifier as a graph of operations that bounds are known for, traced from its module."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from trustml.access import frozen
from trustml.bounds._builder import Builder, Operation, Place, refused
from trustml.bounds._rules import Rule, rule_of, rule_of_module
from trustml.errors import NotApplicable

_SHAPE_METHODS = ("size", "dim", "numel", "view", "reshape", "flatten", "unsqueeze")
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation: what it does, the numbers of the steps that it reads, the shape of its output.

    Step 0 is the input itself: it has no operation.
    """

    operation: Operation | None
    reads: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The steps in order, the number of the one that gives the logits, and float32's unit."""

    steps: tuple[Step, ...]
    output: int
    unit: float
    device: torch.device

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.steps[self.output].shape[0]

    @property
    def widest(self) -> int:
        """Return how many numbers the widest step holds for one input."""
        return max(torch.Size(step.shape).numel() for step in self.steps)


def graph_of(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    """Return the graph of a float32 module in evaluation mode, for inputs (B, *shape).

    Its numbers are float64 copies on the module's device (on the CPU where that has no float64).

    Raises:
        NotApplicable: the module branches on its values, or does something that no bounds are known
            for; it is named.
    """
    tensors = [*module.parameters(), *module.buffers()]
    others = {t.dtype for t in tensors if t.is_floating_point()} - {torch.float32}
    if others:
        raise NotApplicable(f"bounds are for float32 models, and this one holds {others.pop()}")
    _refuse_hooks(module)
    with frozen(module), torch.no_grad():
        outer = nn.Sequential(module)
        traced = _traced(outer)
        device = tensors[0].device if tensors else torch.device("cpu")
        builder = Builder(torch.device("cpu") if device.type == "mps" else device, shape)
        end = _read(traced, outer, builder)
    if not isinstance(end, Place) or len(builder.shape(end)) != 1:
        raise NotApplicable("bounds need logits (B, K), and this model answers something else")
    steps = tuple(Step(*parts) for parts in builder.steps)
    return Graph(steps, end.number, torch.finfo(torch.float32).eps / 2, builder.device)


def _traced(module: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(module)
    except Exception as error:  # a stranger's forward may raise anything when it is traced
        raise NotApplicable(
            "bounds cannot follow this model's code step by step, so that nothing is proved of it, "
            "good or bad"
        ) from error


def _read(traced: fx.Graph, module: nn.Module, builder: Builder) -> Any:
    """Walk through the traced nodes; return what the output is."""
    known: dict[fx.Node, Any] = {}
    for node in traced.nodes:
        args = fx.map_arg(node.args, known.__getitem__)
        kwargs = fx.map_arg(node.kwargs, known.__getitem__)
        if node.op == "output":
            return args[0]
        if node.op == "placeholder":
            known[node] = Place(0)
        elif node.op == "get_attr":
            known[node] = _attribute(module, str(node.target))
        elif node.op == "call_module":
            inner = module.get_submodule(str(node.target))
            name = str(node.target).removeprefix("0").removeprefix(".") or "the model"
            known[node] = _applied(
                rule_of_module(inner, name), name, builder, (inner, *args), kwargs
            )
        elif any(isinstance(value, Place) for value in _leaves((args, kwargs))):
            known[node] = _applied(rule_of(node.target), node.name, builder, args, kwargs)
        else:
            known[node] = _constant(node, args, kwargs)
    raise refused("a model without an output")


def _applied(
    rule: Rule, name: str, builder: Builder, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        return rule(builder, *args, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise refused(f"{name} as it is called here ({error})") from error


def _constant(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a node that does not depend on the input computes.

    Only arithmetic on shapes, weights and numbers: a random draw is no constant.
    """
    if node.op == "call_method" and node.target in _SHAPE_METHODS:
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    if getattr(node.target, "__module__", "") in ("_operator", "builtins", "math"):
        return node.target(*args, **kwargs)  # type: ignore[operator]
    raise refused(str(node.target))


def _attribute(module: nn.Module, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found.detach() if isinstance(found, Tensor) else found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _refuse_hooks(module: nn.Module) -> None:
    """Refuse modules whose answer is not that of their type alone."""
    for name, part in module.named_modules():
        if any(getattr(part, kind) for kind in _HOOKS) or "forward" in vars(part):
            raise refused(f"{type(part).__name__} at {name or 'the top'}, which carries a hook")
