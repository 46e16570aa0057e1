"""Where walks begin: at the input, or at points that fill each ball evenly, anew each restart."""

import math

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Norm
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp

SAMPLES, EPSILON = 4000, 0.2
# From here on, in budgets along the first entry, points are misread; slopes lead nowhere.
SHORE = 0.5
# The share beyond it of all starts on two entries. PGD fills a square, a disc, a diamond; APGD's
# points are moved out to the border: half of those of the square are on its left or right side,
# the others spread evenly over top and bottom.
BEYOND = {
    ("pgd", "linf"): (1 - SHORE) / 2,
    ("pgd", "l2"): (math.acos(SHORE) - SHORE * math.sqrt(1 - SHORE**2)) / math.pi,
    ("pgd", "l1"): (1 - SHORE) ** 2 / 2,
    ("apgd", "linf"): 1 / 4 + (1 - SHORE) / 4,
    ("apgd", "l2"): math.acos(SHORE) / math.pi,
}


class Island(nn.Module):
    """Misreads points whose first entry is beyond the shore; every slope is 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2)."""
        flat = 0 * x.sum(1)
        beyond = (x[:, 0] > 0.5 + SHORE * EPSILON).float()
        return torch.stack([flat, flat + 2 * beyond - 1], 1)


def fooled(name: str, norm: Norm, **options: object) -> Tensor:
    """Return (B,) whether each of the samples in the middle of the box has been won."""
    x, y = torch.full((SAMPLES, 2), 0.5), torch.zeros(SAMPLES, dtype=torch.int64)
    random = keyed(0, torch.arange(SAMPLES))
    found = get("attack", name).function(
        Island(), x, y, Lp(norm, EPSILON), random=random, **options
    )
    return Island()(found).argmax(1) != y


@pytest.mark.parametrize("restarts", [1, 4])
@pytest.mark.parametrize(("name", "norm"), BEYOND)
def test_starts_fill_the_ball_anew_each_restart(name: str, norm: Norm, restarts: int) -> None:
    """Where no slope leads, only starts win: 1 − (1 − p)^R of the samples, p as above."""
    expected = 1 - (1 - BEYOND[name, norm]) ** restarts
    spread = math.sqrt(expected * (1 - expected) / SAMPLES)
    won = fooled(name, norm, steps=1, restarts=restarts).double().mean()
    assert abs(float(won) - expected) < 4 * spread


def test_without_a_random_start_a_walk_begins_at_the_input() -> None:
    """The input is read rightly and nothing leads away from it."""
    assert not fooled("bim", "linf").any()
    assert not fooled("fgsm", "linf").any()
    assert not fooled("pgd", "linf", start=False).any()


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "momentum"])
def test_the_usual_steps_reach_the_border(name: str) -> None:
    """On an affine model that nothing fools, the highest loss is at a corner of the Linf ball."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 0.0]]))
        model.bias.copy_(torch.tensor([9.0, 0.0]))
    x, y = torch.full((3, 2), 0.5), torch.zeros(3, dtype=torch.int64)
    random = keyed(0, torch.arange(3))
    found = get("attack", name).function(model, x, y, Lp("linf", EPSILON), random=random)
    assert torch.allclose(found, x - EPSILON, atol=1e-6)
    assert bool((distance(found, x, "linf") <= EPSILON).all())
