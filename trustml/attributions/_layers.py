"""The inside of a network, for methods that change how its layers pass gradients back.

Such a method sees modules only. What a network does beside its modules, or with one module twice,
it would pass over in silence: so the graph of one forward pass is read first, and refused.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from trustml.errors import NotApplicable

# Steps that are affine in the input, as long as the weights are not part of the graph.
_AFFINE = (
    "Add", "Sub", "Neg", "Addmm", "Mm", "Bmm", "T", "Transpose", "Permute", "View", "UnsafeView",
    "ReshapeAlias", "Reshape", "Expand", "Squeeze", "Unsqueeze", "Select", "Slice", "Cat", "Stack",
    "Split", "Unbind", "Clone", "ToCopy", "Sum", "Mean", "Convolution", "NativeBatchNorm",
    "CudnnBatchNorm", "AvgPool1D", "AvgPool2D", "AdaptiveAvgPool2D", "AdaptiveAvgPool3D",
    "AvgPool3D", "ConstantPadNd", "ReflectionPad2D", "ReplicationPad2D", "UpsampleNearest2D",
    "UpsampleBilinear2D", "AsStrided", "Alias", "Index", "ViewAs", "MkldnnConvolution", "Copy",
    "SplitWithSizes", "Flip", "Movedim", "Unfold", "Im2Col",
)  # fmt: skip
# Those of them that only move numbers about.
_MOVES = (
    "AccumulateGrad", "T", "Transpose", "Permute", "View", "UnsafeView", "ReshapeAlias", "Reshape",
    "Squeeze", "Unsqueeze", "Select", "Slice", "Cat", "Stack", "Split", "Clone", "ToCopy", "Alias",
    "AsStrided", "ViewAs", "Copy",
)  # fmt: skip
_PRODUCTS = ("Mul", "Addmm", "Mm", "Bmm", "Convolution", "MkldnnConvolution")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a module: its name, itself, the graph's nodes before and after, the shape."""

    name: str
    module: nn.Module
    before: Any
    after: Any
    shape: tuple[int, ...]


def private_copy(name: str, model: Any) -> nn.Module:
    """Return the network with the same weights and hooks of its own, so that none stays behind.

    Raises:
        NotApplicable: what was handed has no layers.
    """
    if not isinstance(model, nn.Module):
        raise NotApplicable(
            f"{name} works on a network's layers, and a {type(model).__name__} shows none: "
            f"hand it the nn.Module, or take integrated_gradients or occlusion"
        )
    weights = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, weights)


def calls_of(network: nn.Module, x: Tensor) -> tuple[list[Call], Tensor]:
    """Return every call of a module in one forward pass, in order of its end, and the logits."""
    calls: list[Call] = []
    handles = []
    start = x.detach().clone().requires_grad_()
    for name, module in network.named_modules():

        def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor):
                first = inputs[0] if inputs and isinstance(inputs[0], Tensor) else start
                calls.append(Call(name, module, first.grad_fn, output.grad_fn, tuple(output.shape)))

        handles.append(module.register_forward_hook(note))
    try:
        with torch.enable_grad():
            logits = network(start)
    finally:
        for handle in handles:
            handle.remove()
    return calls, logits


def refuse_unseen(
    name: str, network: nn.Module, x: Tensor, bends: tuple[type[nn.Module], ...], *, forks: bool
) -> list[Call]:
    """Return the calls of a pass over x (1, *S) in which only `bends` are not affine, each once.

    Args:
        name: the method, for its message.
        network: what it is to explain.
        x: any input.
        bends: modules that the method has a rule for.
        forks: whether an activation may go two ways (a residual connection), or be added to and
            scaled beside any module.

    Raises:
        NotApplicable: anything that the method would not see, with its name.
    """
    calls, logits = calls_of(network, x)
    seen: dict[int, str] = {}
    for call in calls:
        if type(call.module) in bends or not (forks or list(call.module.children())):
            if id(call.module) in seen:
                raise NotApplicable(
                    f"{name}: the module {call.name!r} ({type(call.module).__name__}) is used more "
                    f"than once, which its rule cannot tell apart: give each place a module of its "
                    f"own, or take integrated_gradients"
                )
            seen[id(call.module)] = call.name
    known = {id(call.after): call for call in calls if type(call.module) in bends}
    graph = [node for node in _nodes(logits.grad_fn) if node is not None]
    for node in graph:
        if not _is_affine(node) and id(node) not in known:
            raise NotApplicable(
                f"{name}: the network does {_plain(node)} where no module stands that it has a "
                f"rule for, such as {bends[0].__name__}: take integrated_gradients"
            )
    _refuse_forks(name, graph, known, forks)
    if not forks:
        _refuse_loose(name, graph, calls)
    return calls


def last_feature_map(name: str, network: nn.Module, x: Tensor) -> tuple[str, nn.Module]:
    """Return the last module, from the last convolution on, that gives maps of several places.

    Raises:
        NotApplicable: the network has no convolution that leaves more than one place.
    """
    calls, _ = calls_of(network, x)
    counts = [call.name for call in calls]
    convolutions = [at for at, call in enumerate(calls) if isinstance(call.module, nn.Conv2d)]
    for at in range(len(calls) - 1, -1, -1):
        call = calls[at]
        wide = len(call.shape) == 4 and call.shape[2] * call.shape[3] > 1
        if convolutions and at >= convolutions[-1] and wide and counts.count(call.name) == 1:
            return call.name, call.module
    raise NotApplicable(
        f"{name} needs the maps of a convolution, and this network has none that are larger than "
        f"one place: take integrated_gradients"
    )


def named_layer(name: str, network: nn.Module, x: Tensor, layer: str) -> nn.Module:
    """Return the module of that name, which one forward pass over x calls once.

    Raises:
        NotApplicable: there is none, or it is called more than once or never: a map of it would be
            that of one call and pass over the others.
    """
    modules = dict(network.named_modules())
    if layer not in modules:
        known = ", ".join(repr(one) for one in modules if one)
        raise NotApplicable(f"{name}: the network has no layer {layer!r}: it has {known}")
    called = sum(call.module is modules[layer] for call in calls_of(network, x)[0])
    if called != 1:
        raise NotApplicable(
            f"{name}: layer {layer!r} is called {called} times in one pass, and its map would be "
            f"that of one call: take another layer"
        )
    return modules[layer]


def _refuse_forks(name: str, graph: list[Any], known: dict[int, Call], forks: bool) -> None:
    readers: dict[int, int] = {}
    for node in graph:
        for before, _ in node.next_functions:
            # Cutting a tensor into parts is one way, not many.
            cut = _plain(node) in ("Slice", "Select", "Split")
            readers[id(before)] = readers.get(id(before), 0) + (0 if cut else 1)
    before_bends = {id(call.before) for call in known.values()}
    for node in graph:
        if readers.get(id(node), 0) > 1 and (not forks or id(node) in before_bends):
            raise NotApplicable(
                f"{name}: an activation of this network goes two ways after {_plain(node)}, which "
                f"its rule cannot tell apart: take integrated_gradients"
            )


def _refuse_loose(name: str, graph: list[Any], calls: list[Call]) -> None:
    """Refuse arithmetic that no module does: a rule that walks the modules would leave it out."""
    inside = {
        node
        for call in calls
        if not list(call.module.children())
        for node in _nodes(call.after, call.before)
    }
    for node in graph:
        if node not in inside and _plain(node) not in _MOVES:
            raise NotApplicable(
                f"{name}: the network does {_plain(node)} outside of its modules, which its rule "
                f"would leave out: take integrated_gradients"
            )


def _nodes(end: Any, start: Any = None) -> Iterator[Any]:
    """Yield the nodes of the graph before `end`, itself included, back to `start`."""
    seen, waiting = {start}, [end]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [before for before, _ in node.next_functions]


def _is_affine(node: Any) -> bool:
    word = _plain(node)
    inputs = [before is not None for before, _ in node.next_functions]
    if word == "AccumulateGrad":
        return True
    if word in _PRODUCTS and sum(inputs) <= 1:
        return True
    if word == "Div":
        return inputs[:1] == [True] and sum(inputs) == 1
    return word in _AFFINE and word not in _PRODUCTS


def _plain(node: Any) -> str:
    return str(node.name()).split("::")[-1].rstrip("0123456789").removesuffix("Backward")
