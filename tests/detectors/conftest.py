"""What the detectors' tests share: a network with a known head, and outputs of planted classes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Outputs

FEATURES, CLASSES = 12, 4


class Known(nn.Module):
    """Inputs (B, D) → features ReLU(x) → logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        return x.relu()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


@pytest.fixture
def model() -> Known:
    return Known().eval()


@pytest.fixture
def made(model: Known) -> Callable[..., Outputs]:
    """Return what makes outputs of inputs around one centre a class, the same for one seed."""

    def make(count: int = 200, seed: int = 1, wrong: float = 0.1) -> Outputs:
        generator = torch.Generator().manual_seed(seed)
        centres = 2 * torch.rand(CLASSES, FEATURES, generator=torch.Generator().manual_seed(0))
        y = torch.arange(count) % CLASSES
        x = centres[y] + 0.5 * torch.randn(count, FEATURES, generator=generator)
        with torch.no_grad():
            logits, features = 3 * model(x), model.features(x)
        # The labels are the answers but for a share, so that there are right and wrong ones.
        y = torch.where(torch.rand(count, generator=generator) < wrong, y, logits.argmax(1))
        draws = logits + torch.randn(5, *logits.shape, generator=generator)
        return Outputs(logits / 3, features, x, y, draws)

    return make
