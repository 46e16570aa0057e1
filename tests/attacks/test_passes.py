"""Several passes a look: for a model that answers at random, against closed-form moments."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.attacks._pursuit import Seen, at_rest, look
from trustml.attacks._quarry import Quarry
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.contracts import Access
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp

ENTRIES, SIZE = 6, 0.5
WEIGHT = torch.linspace(-1, 1, ENTRIES)


class Noisy(nn.Module):
    """Two logits, (w + noise) · x and 0: a fresh noise for each row of each call."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        noise = SIZE * torch.randn(x.shape, generator=self.generator)
        first = ((WEIGHT + noise) * x).sum(1)
        return torch.stack([first, torch.zeros_like(first)], dim=1)


def seen(passes: int, count: int = 4000, point: float = 0.0) -> Seen:
    """What a look at `count` like points shows; the climbed loss is the second logit's lead."""
    x, y = torch.full((count, ENTRIES), point), torch.zeros(count, dtype=torch.int64)
    quarry = Quarry(x, y, Lp("linf", 0.1), keyed(0, torch.arange(count)), passes=passes)
    return look(Noisy(), x, quarry, lambda logits, hunted: logits[:, 1] - logits[:, 0])


@pytest.mark.parametrize("passes", [1, 4, 16])
def test_the_gradients_variance_falls_with_the_passes(passes: int) -> None:
    """The gradient of one pass is −(w + noise): mean −w, variance 0.25, over `passes` 0.25/passes.

    A variance of 24 000 numbers is off by √(2/24 000) = 0.9 %; 5 % is more than five times that.
    """
    gradient = seen(passes).gradient
    assert torch.allclose(gradient.mean(0), -WEIGHT, atol=5 * SIZE / (4000 * passes) ** 0.5)
    variance = (gradient + WEIGHT).square().mean()
    assert abs(float(variance) * passes / SIZE**2 - 1) < 0.05


def test_losses_are_averaged_not_logits() -> None:
    """The square of a standard normal logit has mean 1; that of the mean of 16 has 1/16."""
    x, y = torch.ones(4000, 1), torch.zeros(4000, dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)

    def model(z: Tensor) -> Tensor:
        return (z * torch.randn(z.shape, generator=generator)).repeat(1, 2)

    quarry = Quarry(x, y, Lp("linf", 0.1), keyed(0, torch.arange(4000)), passes=16)
    losses = look(model, x, quarry, lambda logits, hunted: logits[:, 0].square()).losses
    # Variance of a squared normal is 2; five standard errors of 64 000 of them are 0.028.
    assert abs(float(losses.mean()) - 1) < 0.03


def test_a_point_wins_where_all_passes_do() -> None:
    """At x = 0.5 · 1 the logit is normal with mean 0 and is below 0 in half of the readings."""
    for passes, share in ((1, 0.5), (3, 0.125)):
        reached = seen(passes, point=0.5).reached.double().mean()
        assert abs(float(reached) - share) < 5 * (share * (1 - share) / 4000) ** 0.5
    x, y = torch.full((4000, ENTRIES), 0.5), torch.zeros(4000, dtype=torch.int64)
    quarry = Quarry(x, y, Lp("linf", 0.1), keyed(0, torch.arange(4000)), passes=3)
    won = (at_rest(Noisy(), quarry).loss == torch.inf).double().mean()
    assert abs(float(won) - 0.125) < 0.027


@pytest.mark.parametrize("attack", [apgd, apgd_targeted])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_of_a_steady_model_passes_change_nothing_but_the_count(attack: Any, norm: str) -> None:
    """The mean of four equal numbers is that number, bit for bit."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(ENTRIES, 8), nn.Tanh(), nn.Linear(8, 4))
    x = torch.rand(10, ENTRIES)
    y, ids = model(x).argmax(1), torch.arange(10)
    found = []
    for passes in (1, 4):
        handed = Handed(model, Access.GRADIENTS, 10)
        found.append(
            attack(handed, x, y, Lp(norm, 0.05), random=keyed(0, ids), steps=15, passes=passes)
        )
        found.append(handed.backwards)
    assert torch.equal(found[0], found[2])
    assert torch.equal(4 * found[1], found[3])


@pytest.mark.parametrize("attack", [apgd, apgd_targeted])
def test_bad_options_are_refused(attack: Any) -> None:
    x, y = torch.rand(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(BadOption, match="passes"):
        attack(nn.Linear(3, 4), x, y, Lp("linf", 0.1), random=keyed(0, y), passes=0)
