"""A two-layer sigmoid network with hand-written backpropagation, for its weights and its input."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Training
from trustml.errors import BadOption
from trustml.models._network import UnitBox
from trustml.registry import model


@model(
    source="Rumelhart, Hinton, Williams 1986, Nature 323, eqs. 1-9",
    training=Training(epochs=60, batch_size=64, learning_rate=1e-2, patience=5),
)
def mlp_by_hand(domain: Domain, /, *, hidden: int = 64) -> nn.Module:
    """σ(W₂σ(W₁x + b₁) + b₂), one output a class, trained on binary cross-entropy by hand.

    Raises:
        BadOption: no hidden unit.
    """
    if hidden < 1:
        raise BadOption(f"mlp_by_hand: hidden={hidden} is not allowed: it must be 1 or more")
    return TwoLayers(domain, hidden)


class TwoLayers(nn.Module):
    """W₁ (H, D), b₁, W₂ (K, H), b₂; its logits are what the last sigmoid is taken of."""

    def __init__(self, domain: Domain, hidden: int) -> None:
        super().__init__()
        inputs, classes = math.prod(domain.shape), domain.classes
        self.scale = UnitBox(domain)
        self.weight1 = nn.Parameter(torch.randn(hidden, inputs) / math.sqrt(inputs))
        self.bias1 = nn.Parameter(torch.zeros(hidden))
        self.weight2 = nn.Parameter(torch.randn(classes, hidden) / math.sqrt(hidden))
        self.bias2 = nn.Parameter(torch.zeros(classes))

    def features(self, x: Tensor) -> Tensor:
        """Return the hidden units (B, H)."""
        flat = self.scale(x).flatten(1)
        units: Tensor = Layer.apply(flat, self.weight1, self.bias1)
        return units

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = Affine.apply(self.features(x), self.weight2, self.bias2)
        return logits

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the binary cross-entropy, summed over classes, mean over samples."""
        loss: Tensor = OneAgainstRest.apply(self(x), y)
        return loss


class Affine(torch.autograd.Function):
    """z = xWᵀ + b for x (B, D), W (H, D), b (H,), and the slopes of all three."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return z (B, H)."""
        context.save_for_backward(x, weight)
        return x @ weight.T + bias

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return ∂/∂x = δW, ∂/∂W = δᵀx, ∂/∂b = Σδ for the slope δ (B, H) of z."""
        x, weight = context.saved_tensors
        (delta,) = slopes
        return delta @ weight, delta.T @ x, delta.sum(0)


class Layer(torch.autograd.Function):
    """h = σ(xWᵀ + b) for x (B, D), W (H, D), b (H,), and the slopes of all three."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return h (B, H)."""
        units = sigmoid(x @ weight.T + bias)
        context.save_for_backward(x, weight, units)
        return units

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return Affine's slopes for δ = ∂/∂h · h(1 - h), the slope before the sigmoid."""
        x, weight, units = context.saved_tensors
        delta = slopes[0] * units * (1 - units)
        return delta @ weight, delta.T @ x, delta.sum(0)


class OneAgainstRest(torch.autograd.Function):
    """-Σₖ [tₖ ln σ(zₖ) + (1 - tₖ) ln(1 - σ(zₖ))], mean over samples, t the one-hot label."""

    @staticmethod
    def forward(context: Any, logits: Tensor, y: Tensor) -> Tensor:
        """Return the scalar loss; ln(1 + e^z) is taken so that no large z overflows."""
        wanted = torch.zeros_like(logits).scatter_(1, y[:, None], 1.0)
        context.save_for_backward(logits, wanted)
        soft = logits.clamp_min(0) + torch.log1p(torch.exp(-logits.abs()))
        return (soft - wanted * logits).sum() / len(logits)

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        """Return ∂/∂z = (σ(z) - t)/B."""
        logits, wanted = context.saved_tensors
        return slopes[0] * (sigmoid(logits) - wanted) / len(logits), None


def sigmoid(z: Tensor) -> Tensor:
    """Return 1/(1 + e⁻ᶻ), with no overflow on either side."""
    small = torch.exp(-z.abs())
    return torch.where(z >= 0, 1 / (1 + small), small / (1 + small))
