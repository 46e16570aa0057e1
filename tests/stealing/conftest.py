"""Softmax regressions whose weights are known, what of them a thief should find, and digits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Dataset


class Softmax(nn.Module):
    """A softmax regression over flat inputs with weights from N(0, scale²)."""

    def __init__(self, inputs: int, classes: int = 10, scale: float = 0.05, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.head = nn.Linear(inputs, classes)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(classes, inputs, generator=draw) * scale)
            self.head.bias.copy_(torch.randn(classes, generator=draw) * scale)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def table_of(module: nn.Module) -> Tensor:
    """Weights and biases (K, D+1) in float64, as they stand in the module."""
    head = module.head
    return torch.cat([head.weight, head.bias[:, None]], 1).detach().double()


@pytest.fixture
def softmax() -> type[Softmax]:
    return Softmax


@pytest.fixture
def table() -> Callable[[nn.Module], Tensor]:
    return table_of


@pytest.fixture(scope="session")
def digits() -> Dataset:
    from trustml.data.digits import digits as load

    return load(folder=None)


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> nn.Module:
    """A softmax regression that learnt the digits by L-BFGS: 64 inputs in [0, 1], 10 classes."""
    from trustml.contracts import Training
    from trustml.models.logistic import TRAINING, logistic
    from trustml.training import fit

    assert isinstance(TRAINING, Training)
    module = logistic(digits.train.domain)
    fit(module, digits.train, digits.validation, TRAINING, 0)
    return module.eval()


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(7)
