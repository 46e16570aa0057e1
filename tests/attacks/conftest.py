"""A linear model with inputs in the middle and at the walls of the box, and its exact answers."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from trustml.affine import minimal_distance, strongest_move
from trustml.contracts import Norm
from trustml.threats import Lp


@dataclass(frozen=True)
class Linear:
    """A linear classifier and rightly read inputs in [0, 1]."""

    model: nn.Module
    weight: Tensor
    bias: Tensor
    x: Tensor
    y: Tensor

    def distances(self, norm: Norm) -> Tensor:
        """Return the exact least distance (B,) to a misread point of the box."""
        return minimal_distance(self.weight, self.bias, self.x, self.y, norm, (0.0, 1.0))

    def vulnerable(self, threat: Lp) -> Tensor:
        """Return (B,) whether any point of the ball and the box is misread."""
        move = strongest_move(
            self.weight, self.bias, self.x, self.y, threat.norm, threat.budget(self.x), (0.0, 1.0)
        )
        logits = (self.x.double() + move).flatten(1) @ self.weight.double().T + self.bias.double()
        return logits.argmax(1) != self.y


@pytest.fixture(scope="session")
def linear() -> Linear:
    """Return 64 inputs of 24 entries, a quarter of them at a wall, in five classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.Linear(24, 5)
        x = torch.rand(64, 2, 3, 4)
        x = torch.where(torch.rand_like(x) < 0.25, x.round(), x)
    model = nn.Sequential(nn.Flatten(), layer).eval()
    with torch.no_grad():
        y = model(x).argmax(1)
    return Linear(model, layer.weight.detach(), layer.bias.detach(), x, y)
