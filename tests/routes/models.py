"""Models whose weak points are known, and mail to try routes on."""

import torch
from torch import Tensor, nn

from trustml.contracts import Random, Split
from trustml.randomness import keyed


class Weighing(nn.Module):
    """Logits (0, <weights, x> - threshold): class 1 where the weighed sum is above it."""

    def __init__(self, weights: Tensor, threshold: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        height = (x * self.weights.to(x)).flatten(1).sum(1) - self.threshold
        return torch.stack([torch.zeros_like(height), height], 1)

    def features(self, x: Tensor) -> Tensor:
        """Return the inputs (B, D)."""
        return x.flatten(1)


class Watchful(nn.Module):
    """The same with one class more: a person looks at what is close to the border."""

    def __init__(self, inner: Weighing, near: float) -> None:
        super().__init__()
        self.inner, self.near = inner, near

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 3); the last is above the others within `near` of the border."""
        logits = self.inner(x)
        gap = (logits[:, 1] - logits[:, 0]).abs()
        return torch.cat([logits, (logits.amax(1) + self.near - gap)[:, None]], 1)


def mail(count: int = 40, side: int = 6, value: float = 0.5, label: int = 0) -> Split:
    """Return gray pictures of one class."""
    x = torch.full((count, 1, side, side), value)
    return Split(x, torch.full((count,), label), torch.arange(count), 2)


def numbers(split: Split, seed: int = 0) -> Random:
    """Return the samples' random numbers."""
    return keyed(seed, split.ids)
