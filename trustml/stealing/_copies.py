"""The copy of an affine classifier."""

from math import prod

import torch
from torch import Tensor, nn

from trustml.contracts import Domain


class AffineCopy(nn.Module):
    """A softmax regression that computes in float64 and answers in the precision it is asked in."""

    def __init__(self, domain: Domain, table: Tensor) -> None:
        """Hold `table` (K, D+1): weights, and the biases in the last column."""
        super().__init__()
        self.head = nn.Linear(prod(domain.shape), domain.classes, dtype=torch.float64)
        with torch.no_grad():
            self.head.weight.copy_(table[:, :-1])
            self.head.bias.copy_(table[:, -1])
        self.eval()

    def features(self, x: Tensor) -> Tensor:
        """Return the flattened inputs (B, D)."""
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x).double())
        return logits.to(x.dtype)
