"""A plugin file with models that answer at random, beside the toys that answer rightly."""

import torch
from torch import Tensor, nn

from trustml.registry import model


class _Dice(nn.Module):
    def __init__(self, kind: str, chance: float) -> None:
        super().__init__()
        self.scale, self.kind, self.chance = nn.Parameter(torch.tensor(10.0)), kind, chance
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        logits = self.scale * x[:, :3]
        if self.kind == "turns":
            self.calls += 1
            return logits if self.calls % 2 else -logits
        if self.kind == "same":
            draws = torch.Generator().manual_seed(int(1e4 * float(x.detach().sum())))
            return logits + 1e-3 * torch.rand(logits.shape, generator=draws)
        wrong = torch.rand(len(x), 1) < self.chance
        return torch.where(wrong, -logits, logits)

    def features(self, x: Tensor) -> Tensor:
        return x

    def fit(self, *given: object) -> list[object]:
        return []


@model(source="made by hand")
def dice(domain: object, /, *, kind: str = "coin", chance: float = 0.1) -> nn.Module:
    """Answer the least of three coordinates by chance, or at every other call."""
    return _Dice(kind, chance)
