"""What guards that change the input share: the model behind a change, and gradients through it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from trustml.contracts import Bayesian, Domain
from trustml.errors import NotApplicable
from trustml.guarding import accepted, doubt


class Before(nn.Module):
    """A classifier that reads what `change` makes of its input, (B, *S) → (B, *S)."""

    model: Any

    def __init__(self, model: nn.Module, change: nn.Module) -> None:
        super().__init__()
        self.model, self.change = model, change
        keep_draws(self, model, self._draws)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.model(self.change(x))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what the model's last layer reads, (B, D)."""
        features: Tensor = self.model.features(self.change(x))
        return features

    def accepts(self, x: Tensor) -> Tensor:
        """Return (B,) bool: what the model within says of the changed input."""
        return accepted(self.model, self.change(x))

    def doubt(self, x: Tensor) -> Tensor | None:
        """Return (B,) how the model within doubts the changed input; above 0 it refuses."""
        return doubt(self.model, self.change(x))

    def _draws(self, x: Tensor, draws: int) -> Tensor:
        logits: Tensor = self.model.sample_logits(self.change(x), draws)
        return logits


def keep_draws(guard: nn.Module, model: nn.Module, sample: Callable[[Tensor, int], Tensor]) -> None:
    """Let the guard of a Bayesian model be one: its `sample_logits` is `sample`; else it has none.

    A method in its class would say so of every guard, whatever is within.
    """
    if isinstance(model, Bayesian):
        guard.sample_logits = sample  # type: ignore[assignment]


def straight_through(changed: Tensor, x: Tensor, bpda: bool) -> Tensor:
    """Return `changed`, with the gradient as if it were x.

    Athalye, Carlini, Wagner 2018, arXiv:1802.00420: backward pass differentiable approximation.

    Args:
        changed: what a step without a useful gradient made of x, of the same shape.
        x: what it was made of.
        bpda: let gradients through; without, they are 0, as those of rounding are.
    """
    through: Tensor = _Straight.apply(changed, x, bpda)
    return through


class _Straight(Function):
    """The value of the first, the gradient of the second; fx cannot trace it, so no bound errs."""

    @staticmethod
    def forward(ctx: Any, changed: Tensor, x: Tensor, bpda: bool) -> Tensor:
        ctx.bpda = bpda
        return changed.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, gradient if ctx.bpda else torch.zeros_like(gradient), None


def image_shape(name: str, domain: Domain) -> tuple[int, int, int]:
    """Return channels, height and width.

    Raises:
        NotApplicable: the inputs are no images.
    """
    if len(domain.shape) != 3:
        raise NotApplicable(
            f"{name} needs images (channels, height, width), and these inputs have the shape "
            f"{domain.shape}: bit_depth and randomised_smoothing take any shape"
        )
    channels, height, width = domain.shape
    return channels, height, width
