"""Feature adversary: features come as near to the guide's as the ball allows."""

import pytest
import torch
from torch import Tensor, nn

from trustml.attacks.feature_adversary import feature_adversary
from trustml.errors import BadOption, NotApplicable
from trustml.randomness import keyed
from trustml.threats import Lp


class Mixed(nn.Module):
    """Features are an orthogonal mixture of the entries; two classes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            self.mixture = torch.linalg.qr(torch.randn(8, 8)).Q.double()
            self.head = nn.Linear(8, 2).double()
        self.seen: list[Tensor] = []

    def features(self, x: Tensor) -> Tensor:
        """Return the features (B, 8)."""
        self.seen.append(x.detach().clone())
        return x @ self.mixture

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        return self.head(x @ self.mixture)


def test_it_ends_where_features_are_nearest_to_the_guides() -> None:
    """An orthogonal mixture keeps distances: the nearest point of a cube is each entry clipped.

    The guide is the first point whose features are asked for; a sure head is never misread.
    """
    model = Mixed()
    with torch.no_grad():
        model.head.bias[0] += 50
    x, y = 0.3 + 0.4 * torch.rand(10, 8).double(), torch.zeros(10, dtype=torch.int64)
    feature_adversary(model, x, y, Lp("linf", 0.1), random=keyed(0, y), steps=60)
    guide, last = model.seen[0], model.seen[-1]
    assert bool(((guide - x).abs() > 0.1).all())
    nearest = torch.clamp(guide, x - 0.1, x + 0.1)
    assert torch.allclose(last, nearest, atol=0.01)


def test_the_guide_is_of_another_class() -> None:
    """The walk through the whole box ends beyond the border, and far: at the box's walls."""
    model = Mixed()
    x = 0.3 + 0.4 * torch.rand(10, 8).double()
    y = model(x).argmax(1)
    feature_adversary(model, x, y, Lp("linf", 0.01), random=keyed(0, y), steps=3)
    guide = model.seen[0]
    flips = model(guide).argmax(1) != y[: len(guide)]
    assert float(flips.double().mean()) > 0.5
    assert bool(((guide == 0) | (guide == 1)).all())


def test_a_model_without_features_is_refused() -> None:
    model, x = nn.Linear(4, 3), torch.rand(3, 4)
    y = model(x).argmax(1)
    with pytest.raises(NotApplicable, match=r"features\(x\)"):
        feature_adversary(model, x, y, Lp("linf", 1e-9), random=keyed(0, y))


@pytest.mark.parametrize("options", [{"steps": 0}, {"step": 0.0}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    x, y = torch.rand(3, 8).double(), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(BadOption, match=next(iter(options))):
        feature_adversary(Mixed(), x, y, Lp("linf", 0.1), random=keyed(0, y), **options)
