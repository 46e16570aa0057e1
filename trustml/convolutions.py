"""Input gradients of a network's first convolution, several times as fast as the library's own.

On a CPU oneDNN computes the gradient of a convolution with one input channel as if there were eight
or sixteen. One product and a sum over overlapping patches cost a fifth of that. Forward passes, and
so all answers, stay what they are; the gradient differs in its last bits, as sums do in another
order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# A patch sum costs more than it saves where there are more channels, or steps are small.
_ALWAYS, _IN_STRIDES = 1, 3
# Rows whose patches are alive at once.
_ROWS = 64


def pays(model: object) -> bool:
    """Return whether the model has a convolution whose gradient is to be had quicker."""
    layers = model.modules() if isinstance(model, nn.Module) else ()
    return any(_pays(x.weight, x.stride) for x in layers if isinstance(x, nn.Conv2d))


class QuickGradients(TorchFunctionMode):
    """A context in which convolutions on the CPU record the quicker gradient, where it pays."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and _suits(*args):
            return _Convolution.apply(*args[:6])
        return func(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """A convolution of its input, whose backward pass is a product and a sum over patches."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None,
        stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(weight)
        ctx.size, ctx.how = tuple(x.shape[2:]), (tuple(dilation), tuple(padding), tuple(stride))
        return torch.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        across, kernel = weight.flatten(1).t(), tuple(weight.shape[2:])
        # Patches overlap, so that they take several times the room of what they are summed to.
        sums = [
            nn.functional.fold(torch.matmul(across, part.flatten(2)), ctx.size, kernel, *ctx.how)
            for part in slope.split(_ROWS)
        ]
        return torch.cat(sums) if len(sums) > 1 else sums[0], *[None] * 5


def _suits(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> bool:  # fmt: skip
    """Return whether the call's gradient can be had the quick way, and pays."""
    if groups != 1 or isinstance(padding, str) or x.dim() != 4 or x.dtype != torch.float32:
        return False
    if not x.requires_grad or weight.requires_grad or not torch.is_grad_enabled():
        return False
    if bias is not None and bias.requires_grad:
        return False
    return weight.dtype == x.dtype and x.device.type == "cpu" and _pays(weight, stride)


def _pays(weight: Tensor, stride: Sequence[int]) -> bool:
    channels = weight.shape[1]
    return channels <= _ALWAYS or (channels <= _IN_STRIDES and min(stride) > 1)
