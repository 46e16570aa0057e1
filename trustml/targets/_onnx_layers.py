"""ONNX operators with weights, in torch: dense layers, convolutions, pooling, norms.

Source: the ONNX operator specification (onnx.ai/onnx/operators).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from trustml.errors import NotApplicable

Inputs = Sequence[Any]
Attributes = Mapping[str, Any]


def gemm(x: Inputs, a: Attributes) -> Tensor:
    """Return alpha · A Bᵀ + beta · C."""
    left = x[0].T if a.get("transA") else x[0]
    right = x[1] if a.get("transB") else x[1].T
    if a.get("alpha", 1.0) == a.get("beta", 1.0) == 1.0:
        bias = x[2] if len(x) > 2 and x[2] is not None and x[2].dim() < 2 else None
        found = functional.linear(left, right, bias)
        return found if bias is not None or len(x) < 3 or x[2] is None else found + x[2]
    found = a.get("alpha", 1.0) * functional.linear(left, right)
    return found + a.get("beta", 1.0) * x[2] if len(x) > 2 and x[2] is not None else found


def _padding(shape: Sequence[int], kernel: Sequence[int], a: Attributes) -> list[int]:
    """Return paddings as torch's `pad` takes them: the last axis first, before and after."""
    axes = len(kernel)
    pads = list(a.get("pads", [0] * 2 * axes))
    auto = a.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto.startswith("SAME"):
        strides, dilations = a.get("strides", [1] * axes), a.get("dilations", [1] * axes)
        for axis in range(axes):
            size = shape[2 + axis]
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            lack = max(0, (math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size)
            small, large = lack // 2, lack - lack // 2
            before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
            pads[axis], pads[axes + axis] = before, after
    pairs = [(pads[axis], pads[axes + axis]) for axis in range(axes)]
    return [side for pair in reversed(pairs) for side in pair]


def _padded(x: Tensor, sides: list[int], value: float) -> tuple[Tensor, list[int]]:
    """Return x and the even padding that is left to do, by axis; uneven padding is done here."""
    even = sides[0::2] == sides[1::2]
    if even:
        return x, sides[0::2][::-1]
    return functional.pad(x, sides, value=value), [0] * (len(sides) // 2)


def conv(x: Inputs, a: Attributes) -> Tensor:
    """Return a convolution of one, two or three axes."""
    weight, axes = x[1], x[1].dim() - 2
    data, padding = _padded(x[0], _padding(x[0].shape, weight.shape[2:], a), 0.0)
    bias = x[2] if len(x) > 2 else None
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    return function(
        data, weight, bias, tuple(a.get("strides", [1] * axes)), tuple(padding),
        tuple(a.get("dilations", [1] * axes)), a.get("group", 1),
    )  # fmt: skip


def max_pool(x: Inputs, a: Attributes) -> Tensor:
    """Return the largest value of each window."""
    kernel = list(a["kernel_shape"])
    data, padding = _padded(x[0], _padding(x[0].shape, kernel, a), -math.inf)
    axes = len(kernel)
    function = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)[axes - 1]
    return function(
        data, kernel, list(a.get("strides", [1] * axes)), padding,
        list(a.get("dilations", [1] * axes)), bool(a.get("ceil_mode", 0)),
    )  # fmt: skip


def average_pool(x: Inputs, a: Attributes) -> Tensor:
    """Return the mean of each window.

    Raises:
        NotApplicable: a use of it that is not converted.
    """
    kernel = list(a["kernel_shape"])
    sides = _padding(x[0].shape, kernel, a)
    if sides[0::2] != sides[1::2] or set(a.get("dilations", [1])) != {1}:
        raise NotApplicable("AveragePool with uneven padding or dilation")
    axes = len(kernel)
    function = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1]
    return function(
        x[0], kernel, list(a.get("strides", [1] * axes)), sides[0::2][::-1],
        bool(a.get("ceil_mode", 0)), bool(a.get("count_include_pad", 0)),
    )  # fmt: skip


def batch_norm(x: Inputs, a: Attributes) -> Tensor:
    """Return x with the running mean and variance taken out.

    Raises:
        NotApplicable: a use of it that is not converted.
    """
    if a.get("training_mode"):
        raise NotApplicable("BatchNormalization in training mode")
    return functional.batch_norm(x[0], x[3], x[4], x[1], x[2], False, 0.0, a.get("epsilon", 1e-5))


def layer_norm(x: Inputs, a: Attributes) -> Tensor:
    """Return x with mean and variance of its last axes taken out."""
    shape = x[0].shape[a.get("axis", -1) :]
    bias = x[2] if len(x) > 2 else None
    return functional.layer_norm(x[0], shape, x[1], bias, a.get("epsilon", 1e-5))


def linear_classifier(x: Inputs, a: Attributes) -> tuple[None, Tensor]:
    """Return (label, scores); the label is not converted.

    Raises:
        NotApplicable: a use of it that is not converted.
    """
    classes = len(a["intercepts"])
    weight = x[0].new_tensor(a["coefficients"]).view(classes, -1)
    scores = functional.linear(x[0].flatten(1), weight, x[0].new_tensor(a["intercepts"]))
    after = a.get("post_transform", b"NONE").decode()
    if classes == 1 or after not in ("NONE", "SOFTMAX", "LOGISTIC"):
        raise NotApplicable(f"LinearClassifier with {classes} columns and {after}")
    done = {"NONE": lambda s: s, "SOFTMAX": lambda s: s.softmax(1), "LOGISTIC": torch.sigmoid}
    return None, done[after](scores)


def normalizer(x: Inputs, a: Attributes) -> Tensor:
    """Return rows divided by their norm.

    Raises:
        NotApplicable: a use of it that is not converted.
    """
    norm = a.get("norm", b"MAX").decode()
    if norm not in ("L1", "L2"):
        raise NotApplicable(f"Normalizer {norm}")
    return x[0] / torch.linalg.vector_norm(x[0], int(norm[1]), dim=1, keepdim=True)


def scaler(x: Inputs, a: Attributes) -> Tensor:
    """Return x less an offset, times a scale."""
    return (x[0] - x[0].new_tensor(a.get("offset", [0.0]))) * x[0].new_tensor(a.get("scale", [1.0]))
