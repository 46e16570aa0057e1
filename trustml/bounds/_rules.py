"""From the calls and modules of a traced model to operations: one rule for each."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trustml.bounds._bends import BENDS, Hinge, MaxPool
from trustml.bounds._builder import ROWS, Builder, Place, refused
from trustml.bounds._operations import Average, Convolution, Dense, Reshape, Scale, Sum

Rule = Callable[..., Any]


def rule_of(target: Any) -> Rule:
    """Return the rule of a function or of a method's name.

    Raises:
        NotApplicable: there is none.
    """
    if target in CALLS:
        return CALLS[target]
    raise refused(target if isinstance(target, str) else getattr(target, "__name__", str(target)))


def rule_of_module(module: nn.Module, name: str) -> Rule:
    """Return the rule of a module's very type.

    Raises:
        NotApplicable: there is none.
    """
    if type(module) in MODULES:
        return MODULES[type(module)]
    raise refused(
        f"{type(module).__name__} ({name}); known are {', '.join(k.__name__ for k in MODULES)}"
    )


def _linear(b: Builder, x: Place, weight: Tensor, bias: Tensor | None = None) -> Place:
    return b.add(Dense(b.wide(weight), None if bias is None else b.wide(bias)), x)


def _conv2d(b: Builder, m: nn.Conv2d, x: Place) -> Place:
    if m.padding_mode != "zeros":
        raise refused(f"Conv2d with padding_mode={m.padding_mode!r}")
    if len(b.shape(x)) != 3:
        raise refused(f"a convolution of shape {b.shape(x)}; it must be (channels, height, width)")
    whole = [g * (side - 1) for g, side in zip(m.dilation, m.kernel_size, strict=True)]
    padding: Any = {"valid": (0, 0), "same": tuple(side // 2 for side in whole)}.get(
        m.padding if isinstance(m.padding, str) else "", m.padding
    )
    if m.padding == "same" and any(side % 2 for side in whole):
        raise refused("Conv2d with padding='same' and an even kernel")
    bias = None if m.bias is None else b.wide(m.bias)
    how = (m.stride, padding, m.dilation, m.groups)
    return b.add(Convolution(b.wide(m.weight), bias, b.shape(x), how), x)


def _batch_norm(b: Builder, m: Any, x: Place) -> Place:
    if m.running_mean is None:
        raise refused("a batch norm without running statistics")
    factor = 1 / (b.wide(m.running_var) + m.eps).sqrt()
    factor = factor if m.weight is None else factor * b.wide(m.weight)
    bias = torch.zeros_like(factor) if m.bias is None else b.wide(m.bias)
    shape = (-1, *[1] * (len(b.shape(x)) - 1))
    moved = factor * b.wide(m.running_mean)
    factor, offset, size = (
        part.view(shape) for part in (factor, bias - moved, bias.abs() + moved.abs())
    )
    # Mean, variance, root, division, weight and bias, each rounded once or twice.
    return b.add(Scale(factor, offset, size, terms=12), x)


def _bend(name: str) -> tuple[Rule, Rule]:
    """Return the rules of a bend as a module and as a call."""
    return lambda b, m, x: b.add(BENDS[name], x), lambda b, x, inplace=False: b.add(BENDS[name], x)


def _leaky_relu(b: Builder, m: nn.LeakyReLU, x: Place) -> Place:
    if not 0 <= m.negative_slope <= 1:
        raise refused(f"LeakyReLU with slope {m.negative_slope}, outside [0, 1]")
    return b.add(Hinge(float(m.negative_slope)), x)


def _softplus(b: Builder, m: nn.Softplus, x: Place) -> Place:
    if (m.beta, m.threshold) != (1, 20):
        raise refused(f"Softplus with beta={m.beta}, threshold={m.threshold}; only 1 and 20")
    return b.add(BENDS["softplus"], x)


def _max_pool2d(b: Builder, m: nn.MaxPool2d, x: Place) -> Place:
    if m.ceil_mode or m.return_indices or len(b.shape(x)) != 3:
        raise refused("MaxPool2d with ceil_mode or indices")
    sizes = [_pair(part) for part in (m.kernel_size, m.stride, m.padding, m.dilation)]
    return b.add(MaxPool(b.shape(x), *sizes), x)


def _avg_pool2d(b: Builder, m: nn.AvgPool2d, x: Place) -> Place:
    if m.divisor_override is not None and m.divisor_override <= 0:
        raise refused("AvgPool2d with a divisor below 1")
    how = (m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override)
    entries = math.prod(_pair(m.kernel_size))
    return _average(b, x, lambda z: functional.avg_pool2d(z, *how), entries)


def _adaptive_avg_pool2d(b: Builder, m: nn.AdaptiveAvgPool2d, x: Place) -> Place:
    entries = math.prod(b.shape(x)[-2:])
    return _average(b, x, lambda z: functional.adaptive_avg_pool2d(z, m.output_size), entries)


def _mean(b: Builder, x: Place, dim: Any, keepdim: bool = False) -> Place:
    axes = [axis % (len(b.shape(x)) + 1) for axis in ([dim] if isinstance(dim, int) else dim)]
    if 0 in axes:
        raise refused("a mean over samples")
    entries = math.prod(b.shape(x)[axis - 1] for axis in axes)
    return _average(b, x, lambda z: z.mean(axes, keepdim), entries)


def _average(b: Builder, x: Place, mean: Callable[[Tensor], Tensor], entries: int) -> Place:
    return b.add(Average(mean, b.shape(x), entries + 1), x)


def _reshape(call: Callable[..., Tensor]) -> Rule:
    """Return the rule of a call that gives the numbers of each sample another shape."""

    def rule(b: Builder, x: Place, *args: Any, **kwargs: Any) -> Place:
        shape = b.shape(x)
        after = call(torch.empty(ROWS, *shape, device="meta"), *args, **kwargs).shape
        if len(after) < 2 or after[0] != ROWS:
            raise refused(f"a reshape from (B, *{shape}) that mixes samples")
        return x if after[1:] == shape else b.add(Reshape(shape, tuple(after[1:])), x)

    return rule


def _size(b: Builder, x: Place, axis: int | None = None) -> Any:
    size = torch.Size((ROWS, *b.shape(x)))
    return size if axis is None else size[axis]


def _getattr(b: Builder, x: Place, name: str) -> Any:
    if name == "shape":
        return _size(b, x)
    raise refused(f"the attribute {name} of a tensor")


def _same(b: Builder, x: Place) -> Place:
    return x


def _dropout(
    b: Builder, x: Place, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Place:
    if training:
        raise refused("dropout that stays on at test time")
    return x


def _sum(sign: int) -> Rule:
    def rule(b: Builder, first: Any, second: Any) -> Place:
        if isinstance(first, Place) and isinstance(second, Place):
            if b.shape(first) != b.shape(second):
                raise refused(f"a sum of shapes {b.shape(first)} and {b.shape(second)}")
            return b.add(Sum(sign), first, second)
        if isinstance(first, Place):
            shift = sign * b.like_one(second, first)
            return b.add(Scale(torch.ones_like(shift), shift, shift.abs()), first)
        shift = b.like_one(first, second)
        return b.add(Scale(torch.full_like(shift, sign), shift, shift.abs()), second)

    return rule


def _times(b: Builder, first: Any, second: Any) -> Place:
    place, other = (first, second) if isinstance(first, Place) else (second, first)
    if isinstance(other, Place):
        raise refused("a product of two values that depend on the input")
    return b.add(Scale(b.like_one(other, place), None, None), place)


def _divided(b: Builder, x: Any, divisor: Any) -> Place:
    if isinstance(divisor, Place):
        raise refused("a division by what depends on the input")
    return b.add(Scale(1 / b.like_one(divisor, x), None, None), x)


def _negative(b: Builder, x: Place) -> Place:
    return b.add(Scale(b.like_one(-1.0, x), None, None), x)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


_RELU, _TANH, _SIGMOID = _bend("relu"), _bend("tanh"), _bend("sigmoid")

MODULES: dict[type[nn.Module], Rule] = {
    nn.Linear: lambda b, m, x: _linear(b, x, m.weight, m.bias),
    nn.Conv2d: _conv2d,
    nn.ReLU: _RELU[0],
    nn.LeakyReLU: _leaky_relu,
    nn.Tanh: _TANH[0],
    nn.Sigmoid: _SIGMOID[0],
    nn.Softplus: _softplus,
    nn.MaxPool2d: _max_pool2d,
    nn.AvgPool2d: _avg_pool2d,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool2d,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.Flatten: lambda b, m, x: _reshape(torch.flatten)(b, x, m.start_dim, m.end_dim),
    nn.Dropout: lambda b, m, x: x,
    nn.Dropout2d: lambda b, m, x: x,
    nn.Identity: lambda b, m, x: x,
}


def _as(kind: type[nn.Module]) -> Rule:
    """Return the rule of a call that takes what the module of that type is made with."""
    return lambda b, x, *how, **named: MODULES[kind](b, kind(*how, **named), x)


CALLS: dict[Any, Rule] = {
    functional.linear: _linear,
    functional.leaky_relu: _as(nn.LeakyReLU),
    functional.softplus: _as(nn.Softplus),
    functional.max_pool2d: _as(nn.MaxPool2d),
    functional.avg_pool2d: _as(nn.AvgPool2d),
    functional.adaptive_avg_pool2d: _as(nn.AdaptiveAvgPool2d),
    functional.dropout: _dropout,
    "size": _size,
    getattr: _getattr,
    **dict.fromkeys((functional.relu, torch.relu, torch.relu_, "relu", "relu_"), _RELU[1]),
    **dict.fromkeys((functional.tanh, torch.tanh, "tanh"), _TANH[1]),
    **dict.fromkeys((functional.sigmoid, torch.sigmoid, "sigmoid"), _SIGMOID[1]),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.flatten, "flatten"), _reshape(torch.flatten)),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape(Tensor.reshape)),
    **dict.fromkeys(("contiguous", "clone", "detach", "float"), _same),
    **dict.fromkeys((operator.add, operator.iadd, torch.add), _sum(1)),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub), _sum(-1)),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul), _times),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div), _divided),
    **dict.fromkeys((operator.neg, torch.neg), _negative),
}
