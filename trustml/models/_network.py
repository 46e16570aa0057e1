"""What the feed-forward models share: the network, its activations, and what a domain must be."""

from collections.abc import Iterable
from typing import Literal

from torch import Tensor, nn

from trustml.contracts import Domain
from trustml.errors import BadOption, NotApplicable

Activation = Literal["relu", "tanh", "sigmoid", "gelu", "softplus"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
}


class UnitBox(nn.Module):
    """Maps the domain's box to [0, 1]; its numbers belong to the data, so they are not weights."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.low, self.width = domain.low, domain.high - domain.low

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, *S) in units of the box."""
        return x if (self.low, self.width) == (0.0, 1.0) else (x - self.low) / self.width


class Network(nn.Module):
    """Layers whose last one is a linear head; `body` holds them all by their place in the chain."""

    def __init__(self, domain: Domain, layers: Iterable[nn.Module]) -> None:
        super().__init__()
        self.scale = UnitBox(domain)
        self.body = nn.Sequential(*layers)
        assert isinstance(self.head, nn.Linear)

    @property
    def head(self) -> nn.Linear:
        """The last layer, which reads the features."""
        head: nn.Linear = self.body[-1]  # type: ignore[assignment]
        return head

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads, (B, D)."""
        x = self.scale(x)
        for layer in self.body[:-1]:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.body(self.scale(x))
        return logits


def dense(
    inputs: int, hidden: tuple[int, ...], activation: Activation, dropout: float
) -> list[nn.Module]:
    """Return linear layers with activations and dropout, (B, inputs) → (B, hidden[-1]).

    Dropout sits inside the activation's place, so weights have the same names with and without it.

    Raises:
        BadOption: a width below 1, or a dropout that is no rate.
    """
    if any(width < 1 for width in hidden):
        raise BadOption(f"hidden={list(hidden)} is not allowed: every width must be 1 or more")
    if not 0 <= dropout < 1:
        raise BadOption(f"dropout={dropout} is not allowed: it must be in [0, 1)")
    layers: list[nn.Module] = []
    for before, width in zip((inputs, *hidden), hidden, strict=False):
        bend: nn.Module = ACTIVATIONS[activation]()
        layers += [
            nn.Linear(before, width),
            nn.Sequential(bend, nn.Dropout(dropout)) if dropout else bend,
        ]
    return layers


def need_images(name: str, domain: Domain) -> tuple[int, int, int]:
    """Return channels, height and width of the domain.

    Raises:
        NotApplicable: the inputs are not images.
    """
    if len(domain.shape) != 3:
        raise NotApplicable(
            f"{name} needs images (channels, height, width), and these inputs have the shape "
            f"{domain.shape}: mlp and logistic take any shape"
        )
    channels, height, width = domain.shape
    return channels, height, width


def too_small(name: str, domain: Domain, least: str) -> NotApplicable:
    """Return the error for images that leave nothing after the model's convolutions."""
    return NotApplicable(
        f"{name} needs images of at least {least}, and these are "
        f"{domain.shape[1]}x{domain.shape[2]}: mlp and logistic take any size, cnn small ones "
        f"if its kernel is small"
    )
