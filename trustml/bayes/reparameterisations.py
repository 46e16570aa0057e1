"""Draws as functions of parameters and of fixed noise, so that gradients pass through them."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot, softmax

from trustml.bayes.checks import check_positive, check_real
from trustml.errors import BadInput


def gaussian(mean: Tensor, scale: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Return mean + scale·ε, ε ~ N(0, 1), in the common shape of mean and scale.

    Raises:
        BadInput: a mean is not finite, a scale negative or not finite, or their shapes do not fit.
    """
    _floating(mean=mean, scale=scale)
    _check("scale", scale, bool(((scale >= 0) & scale.isfinite()).all()), "finite, and 0 or more")
    _check("mean", mean, bool(mean.isfinite().all()), "finite")
    try:
        shape = torch.broadcast_shapes(mean.shape, scale.shape)
    except RuntimeError:
        raise BadInput(
            f"mean {tuple(mean.shape)} and scale {tuple(scale.shape)}: no common shape"
        ) from None
    noise = torch.randn(shape, generator=generator, dtype=mean.dtype, device=mean.device)
    return mean + scale * noise


def exponential(rate: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Return -log(u) / rate, u uniform in (0, 1]: exponential draws in the shape of rate.

    Raises:
        BadInput: a rate is not a finite number above 0.
    """
    _floating(rate=rate)
    _check("rate", rate, bool(((rate > 0) & rate.isfinite()).all()), "finite, and above 0")
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
        BadInput: the temperature is not a finite number above 0, or the logits are no softmax's:
            none, NaN, +∞, or all -∞.
    """
    check_positive(BadInput, temperature=temperature)
    _floating(logits=logits)
    if not logits.ndim or not logits.shape[-1]:
        raise BadInput(f"logits {tuple(logits.shape)}: give (…, K), K at least 1")
    top = logits.amax(-1)
    _check("logits", logits, bool(top.isfinite().all()), "finite, or -inf for some")
    noisy = logits + gumbel(logits, generator=generator)
    # So cold that the division would overflow, the draw is its arg max all the same.
    cold = max(temperature, torch.finfo(logits.dtype).tiny)
    soft = softmax((noisy - noisy.amax(-1, keepdim=True)) / cold, dim=-1)
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


def _floating(**tensors: Tensor) -> None:
    check_real(**tensors)
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise BadInput(f"{name}: {value.dtype} was given, and floating point is needed")


def _check(name: str, value: Tensor, right: bool, allowed: str) -> None:
    if not right:
        raise BadInput(f"{name} in [{float(value.min())}, {float(value.max())}]: must be {allowed}")
