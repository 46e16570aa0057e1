"""The copy of a network with one hidden ReLU layer, with or without a linear way around it."""

from math import prod

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from trustml.contracts import Domain


class ReluCopy(nn.Module):
    """logits = head(relu(hidden(x))) + around(x), in float64; it answers in x's precision."""

    def __init__(
        self, domain: Domain, inner: Tensor, outer: Tensor, bias: Tensor, around: Tensor | None
    ) -> None:
        """Hold `inner` (H, D+1), biases last, `outer` (K, H), `bias` (K,), `around` (K, D)."""
        super().__init__()
        inputs = prod(domain.shape)
        if not len(inner):  # torch has no layers without units: one that is never on
            inner, outer = inner.new_zeros(1, inputs + 1), outer.new_zeros(domain.classes, 1)
        width = len(inner)
        self.hidden = _linear(inputs, width)
        self.head = _linear(width, domain.classes)
        self.around: nn.Linear | None = None
        with torch.no_grad():
            self.hidden.weight.copy_(inner[:, :-1])
            self.hidden.bias.copy_(inner[:, -1])
            self.head.weight.copy_(outer)
            self.head.bias.copy_(bias)
            if around is not None:
                self.around = _linear(inputs, domain.classes, bias=False)
                self.around.weight.copy_(around)
        self.eval()

    def features(self, x: Tensor) -> Tensor:
        """Return the hidden units (B, H)."""
        return self.hidden(x.flatten(1).double()).relu()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        if self.around is not None:
            logits = logits + self.around(x.flatten(1).double())
        return logits.to(x.dtype)


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    """Return a layer without weights drawn for it: that would move the global random state."""
    layer = skip_init(nn.Linear, inputs, outputs, bias=bias, dtype=torch.float64)
    assert isinstance(layer, nn.Linear)
    return layer
