"""The copy of a network with one hidden ReLU layer, with or without a linear way around it."""

from math import prod

import torch
from torch import Tensor, nn

from trustml.contracts import Domain


class ReluCopy(nn.Module):
    """logits = head(relu(hidden(x))) + around(x), in float64; it answers in x's precision."""

    def __init__(
        self, domain: Domain, inner: Tensor, outer: Tensor, bias: Tensor, around: Tensor | None
    ) -> None:
        """Hold `inner` (H, D+1), biases last, `outer` (K, H), `bias` (K,), `around` (K, D)."""
        super().__init__()
        inputs, width = prod(domain.shape), len(inner)
        self.hidden = nn.Linear(inputs, width, dtype=torch.float64)
        self.head = nn.Linear(width, domain.classes, dtype=torch.float64)
        self.around: nn.Linear | None = None
        with torch.no_grad():
            self.hidden.weight.copy_(inner[:, :-1])
            self.hidden.bias.copy_(inner[:, -1])
            self.head.weight.copy_(outer)
            self.head.bias.copy_(bias)
            if around is not None:
                self.around = nn.Linear(inputs, domain.classes, bias=False, dtype=torch.float64)
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
