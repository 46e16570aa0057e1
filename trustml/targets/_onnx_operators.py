"""ONNX operators in torch, so that a network has gradients: inputs and attributes → outputs.

Source: the ONNX operator specification (onnx.ai/onnx/operators), opsets 7 to 25.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trustml.errors import NotApplicable
from trustml.targets._onnx_layers import (
    average_pool,
    batch_norm,
    conv,
    gemm,
    layer_norm,
    linear_classifier,
    max_pool,
    normalizer,
    scaler,
)

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]
Operator = Callable[[Inputs, Attributes], Any]


def _pointwise(function: Any) -> Operator:
    return lambda x, a: function(*x)


def _divided(x: Tensor, by: Tensor) -> Tensor:
    """Return x / by; whole numbers, such as sizes, are cut to whole ones."""
    whole = not (x.is_floating_point() or by.is_floating_point())
    return torch.div(x, by, rounding_mode="trunc" if whole else None)


def _numbers(value: Any) -> list[int]:
    """Return axes, sizes or a shape as numbers, from a tensor or an attribute."""
    return [int(one) for one in (value.tolist() if isinstance(value, Tensor) else value)]


def _axes(x: Inputs, a: Attributes, place: int = 1) -> list[int] | None:
    """Return the axes of a node: its input from opset 13 on, its attribute before."""
    given = x[place] if len(x) > place and x[place] is not None else a.get("axes")
    return None if given is None else _numbers(given)


def _softmax(log: bool) -> Operator:
    function = functional.log_softmax if log else functional.softmax

    def run(x: Inputs, a: Attributes) -> Tensor:
        if a["opset"] >= 13:
            return function(x[0], a.get("axis", -1))
        # Before opset 13 all axes from `axis` on are one.
        return function(x[0].flatten(a.get("axis", 1)), -1).view(x[0].shape)

    return run


def _reduce(function: Callable[..., Tensor]) -> Operator:
    def run(x: Inputs, a: Attributes) -> Tensor:
        axes = _axes(x, a)
        if not axes and a.get("noop_with_empty_axes"):
            return x[0]
        axes = axes or list(range(x[0].dim()))
        return function(x[0], axes, bool(a.get("keepdims", 1)))

    return run


def _reshape(x: Inputs, a: Attributes) -> Tensor:
    wanted = _numbers(x[1])
    if not a.get("allowzero"):
        wanted = [x[0].shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    return x[0].reshape(wanted)


def _flatten(x: Inputs, a: Attributes) -> Tensor:
    axis = a.get("axis", 1) % (x[0].dim() + 1)
    if axis == 1:
        return x[0].flatten(1)
    return x[0].reshape(math.prod(x[0].shape[:axis]), -1)


def _clip(x: Inputs, a: Attributes) -> Tensor:
    low = x[1] if len(x) > 1 else a.get("min")
    high = x[2] if len(x) > 2 else a.get("max")
    return torch.clamp(x[0], low, high)


def _pad(x: Inputs, a: Attributes) -> Tensor:
    pads = _numbers(x[1] if len(x) > 1 else a["pads"])
    value = float(x[2]) if len(x) > 2 and x[2] is not None else a.get("value", 0.0)
    if len(x) > 3 and x[3] is not None:
        raise NotApplicable("Pad of some axes")
    axes = len(pads) // 2
    sides = [side for axis in reversed(range(axes)) for side in (pads[axis], pads[axes + axis])]
    mode = a.get("mode", b"constant").decode()
    if mode == "constant":
        return functional.pad(x[0], sides, value=value)
    return functional.pad(x[0], sides[: 2 * (axes - 2)], {"edge": "replicate"}.get(mode, mode))


def _slice(x: Inputs, a: Attributes) -> Tensor:
    starts = _numbers(x[1] if len(x) > 1 else a["starts"])
    ends = _numbers(x[2] if len(x) > 2 else a["ends"])
    axes = _axes(x, a, 3) or list(range(len(starts)))
    steps = _numbers(x[4]) if len(x) > 4 and x[4] is not None else [1] * len(starts)
    parts: list[slice] = [slice(None)] * x[0].dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 1:
            raise NotApplicable("Slice that steps backwards")
        parts[axis] = slice(start, end, step)
    return x[0][tuple(parts)]


def _squeeze(x: Inputs, a: Attributes) -> Tensor:
    axes = _axes(x, a)
    return x[0].squeeze() if axes is None else x[0].squeeze(axes)


def _unsqueeze(x: Inputs, a: Attributes) -> Tensor:
    found, axes = x[0], _axes(x, a) or []
    rank = found.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        found = found.unsqueeze(axis)
    return found


def _split(x: Inputs, a: Attributes) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    sizes = x[1] if len(x) > 1 else a.get("split")
    if sizes is not None:
        return x[0].split(_numbers(sizes), axis)
    return x[0].chunk(a["outputs"], axis)


def _gather(x: Inputs, a: Attributes) -> Tensor:
    axis, places = a.get("axis", 0), x[1].long()
    places = torch.where(places < 0, places + x[0].shape[axis], places)
    found = x[0].index_select(axis, places.reshape(-1))
    return found.reshape(*x[0].shape[:axis], *places.shape, *x[0].shape[axis:][1:])


def _cast(x: Inputs, a: Attributes) -> Tensor:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}
    if a["to"] not in kinds:
        raise NotApplicable(f"Cast to type {a['to']}")
    kind = kinds[a["to"]]
    # Asked in float64, all of the network computes in it.
    return x[0] if kind.is_floating_point and x[0].is_floating_point() else x[0].to(kind)


def _filled(x: Inputs, a: Attributes) -> Tensor:
    value = a.get("value", torch.zeros(1))
    return value.reshape(()).expand(_numbers(x[0])).clone()


def _hard_sigmoid(x: Inputs, a: Attributes) -> Tensor:
    return (a.get("alpha", 0.2) * x[0] + a.get("beta", 0.5)).clamp(0, 1)


def _gelu(x: Inputs, a: Attributes) -> Tensor:
    return functional.gelu(x[0], approximate=a.get("approximate", b"none").decode())


OPERATORS: dict[str, Operator] = {
    **{
        name: _pointwise(function)
        for name, function in {
            "Abs": torch.abs,
            "Add": torch.add,
            "Div": _divided,
            "Equal": torch.eq,
            "Erf": torch.erf,
            "Exp": torch.exp,
            "Greater": torch.gt,
            "HardSwish": torch.nn.functional.hardswish,
            "Identity": lambda x: x,
            "Less": torch.lt,
            "Log": torch.log,
            "MatMul": torch.matmul,
            "Mish": functional.mish,
            "Mul": torch.mul,
            "Neg": torch.neg,
            "PRelu": lambda x, slope: torch.where(x > 0, x, slope * x),
            "Pow": torch.pow,
            "Reciprocal": torch.reciprocal,
            "Relu": functional.relu,
            "Sigmoid": torch.sigmoid,
            "Sin": torch.sin,
            "Cos": torch.cos,
            "Softplus": functional.softplus,
            "Softsign": functional.softsign,
            "Sqrt": torch.sqrt,
            "Sub": torch.sub,
            "Tanh": torch.tanh,
            "Where": torch.where,
        }.items()
    },
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda x, a: torch.cat(list(x), a["axis"]),
    "Constant": lambda x, a: next(
        a[name]
        for name in ("value", "value_float", "value_int", "value_ints", "value_floats")
        if name in a
    ),
    "ConstantOfShape": _filled,
    "Conv": conv,
    "Dropout": lambda x, a: x[0],
    "Elu": lambda x, a: functional.elu(x[0], a.get("alpha", 1.0)),
    "Expand": lambda x, a: x[0] * torch.ones(_numbers(x[1]), dtype=x[0].dtype),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": gemm,
    "GlobalAveragePool": lambda x, a: x[0].mean(list(range(2, x[0].dim())), keepdim=True),
    "GlobalMaxPool": lambda x, a: x[0].amax(list(range(2, x[0].dim())), keepdim=True),
    "HardSigmoid": _hard_sigmoid,
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda x, a: functional.leaky_relu(x[0], a.get("alpha", 0.01)),
    "LinearClassifier": linear_classifier,
    "LogSoftmax": _softmax(True),
    "Max": lambda x, a: x[0] if len(x) == 1 else torch.stack(torch.broadcast_tensors(*x)).amax(0),
    "MaxPool": max_pool,
    "Min": lambda x, a: x[0] if len(x) == 1 else torch.stack(torch.broadcast_tensors(*x)).amin(0),
    "Normalizer": normalizer,
    "Pad": _pad,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Reshape": _reshape,
    "Scaler": scaler,
    "Selu": lambda x, a: functional.selu(x[0]),
    "Shape": lambda x, a: torch.tensor(x[0].shape[a.get("start", 0) : a.get("end")]),
    "Slice": _slice,
    "Softmax": _softmax(False),
    "Split": _split,
    "Squeeze": _squeeze,
    "Sum": lambda x, a: sum(x[1:], x[0]),
    "Transpose": lambda x, a: x[0].permute(*a.get("perm", range(x[0].dim() - 1, -1, -1))),
    "Unsqueeze": _unsqueeze,
    "ZipMap": lambda x, a: x[0],
}
