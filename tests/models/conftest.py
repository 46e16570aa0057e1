"""What the models' tests share: embedded digits, a small Bayesian network, samples for it."""

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from trustml.contracts import Domain, Split
from trustml.models.bnn import bnn
from trustml.training import seeded


@pytest.fixture(scope="session")
def digits() -> tuple[Split, Split, Split]:
    """Return train, validation and test parts of the digits, (1, 8, 8) in [0, 1]."""
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    cuts = order[:1200], order[1200:1437], order[1437:]
    train, validation, test = (Split(x[rows], y[rows], rows, 10) for rows in cuts)
    return train, validation, test


@pytest.fixture
def model() -> Callable[..., nn.Module]:
    """Return what builds an untrained small network with a posterior, in eval mode."""

    def build(
        posterior: str,
        body: str = "mlp:hidden=[7,5]",
        domain: Domain = Domain((3,), 4),  # noqa: B008 - frozen
        **options: object,
    ) -> nn.Module:
        with seeded(0):
            return bnn(domain, posterior=posterior, body=body, **options).eval()

    return build


@pytest.fixture
def samples() -> Callable[..., Split]:
    """Return what draws inputs in the unit cube; the class is the quarter two of them lie in."""

    def draw(count: int = 60, seed: int = 0) -> Split:
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(count, 3, generator=generator)
        seen = x + 0.2 * torch.randn(count, 3, generator=generator)
        y = 2 * (seen[:, 0] > 0.5).long() + (seen[:, 1] > 0.5).long()
        return Split(x, y, torch.arange(count), 4)

    return draw
