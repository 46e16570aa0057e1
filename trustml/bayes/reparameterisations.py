"""Draws as functions of parameters and of fixed noise, so that gradients pass through them."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot, softmax

from trustml.errors import BadInput


def gaussian(mean: Tensor, scale: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Return mean + scale·ε, ε ~ N(0, 1), in the common shape of mean and scale.

    Raises:
        BadInput: a mean is NaN, or a scale is negative or NaN.
    """
    _check("scale", scale, bool((scale >= 0).all()), "0 or more")
    _check("mean", mean, not bool(mean.isnan().any()), "a number")
    shape = torch.broadcast_shapes(mean.shape, scale.shape)
    noise = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return mean + scale * noise


def exponential(rate: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Return -log(u) / rate, u uniform in (0, 1]: exponential draws in the shape of rate.

    Raises:
        BadInput: a rate is not above 0.
    """
    _check("rate", rate, bool((rate > 0).all()), "above 0")
    return _unit_exponential(rate, generator) / rate


def gumbel_softmax(
    logits: Tensor,
    temperature: float,
    *,
    straight_through: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """Return draws (…, K) of a category: softmax((logits + Gumbel noise) / temperature).

    Straight-through: the value is the one-hot arg max, an exact draw from softmax(logits) at every
    temperature; the gradient is that of the soft draw, so it is biased, less so when cold, where it
    is also noisier. Sources: Jang et al. 2017, arXiv:1611.01144; Maddison et al. 2017,
    arXiv:1611.00712.

    Raises:
        BadInput: the temperature is not above 0, or a logit is NaN.
    """
    if not temperature > 0:
        raise BadInput(f"temperature {temperature}: it must be above 0")
    _check("logits", logits, not bool(logits.isnan().any()), "a number")
    soft = softmax((logits + gumbel(logits, generator=generator)) / temperature, dim=-1)
    if not straight_through:
        return soft
    hard = one_hot(soft.argmax(-1), logits.shape[-1]).to(soft.dtype)
    return hard + soft - soft.detach()


def gumbel(like: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Return Gumbel(0, 1) noise in the shape of `like`; the arg max of logits plus it is a draw."""
    # The floor stands for u = 1, whose Gumbel would be infinite.
    tiny = torch.finfo(like.dtype).tiny
    return -_unit_exponential(like, generator).clamp_min(tiny).log()


def _unit_exponential(like: Tensor, generator: Generator | None) -> Tensor:
    # torch.rand lies in [0, 1) and log(0) is infinite: 1 - rand lies in (0, 1].
    shape, dtype, device = like.shape, like.dtype, like.device
    return -(1 - torch.rand(shape, generator=generator, dtype=dtype, device=device)).log()


def _check(name: str, value: Tensor, right: bool, allowed: str) -> None:
    if not right:
        raise BadInput(f"{name} in [{float(value.min())}, {float(value.max())}]: must be {allowed}")
