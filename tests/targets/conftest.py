"""A small network on the digits, and ways to open a target, that the tests of targets share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trustml.contracts import Dataset, Domain, Target
from trustml.data.digits import digits
from trustml.deployment import opened
from trustml.recipes import read_recipe

DIGITS = Domain((1, 8, 8), 10)


class Net(nn.Module):
    """Convolution, pooling, batch norm and two dense layers, in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 16),
            nn.Tanh(), nn.Linear(16, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(x)
        return logits


@pytest.fixture
def net() -> Net:
    """A network with random weights and running statistics that are not the default ones."""
    torch.manual_seed(3)
    module = Net()
    module.train()
    for _ in range(5):
        module(torch.rand(32, 1, 8, 8))
    return module.eval()


@pytest.fixture(scope="session")
def data() -> Dataset:
    """The embedded digits."""
    return digits(folder=None)


@pytest.fixture
def open_target() -> Callable[..., Target]:
    """Return a function that opens the target of a text, for the digits by default."""

    def opens(text: str, domain: Domain | None = DIGITS) -> Target:
        recipe = read_recipe(text)
        return opened(recipe.model.plugin, recipe.own, domain)

    return opens


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the servers' environments."""
    kept = os.environ.get("TRUSTML_SERVER_VENVS")
    return Path(kept) if kept else tmp_path_factory.mktemp("venvs")


def inputs(count: int = 40) -> torch.Tensor:
    """Return inputs like digits, the same ones always."""
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def gradient(model: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the input gradient of a smooth sum of all logits."""
    x = x.clone().requires_grad_()
    logits = model(x)
    weights = torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype)
    (found,) = torch.autograd.grad((logits * weights).sum(), x)
    return found
