"""One move of a walk of fixed step, in L1: which entries share it, and that walls take none."""

import torch

from trustml.attacks._ascent import ascend, begin_ascent, with_room
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.randomness import keyed
from trustml.threats import Lp

ENTRIES, STEP = 300, 0.3
BOX = (-1.0, 3.0)


def quarry(x: torch.Tensor, epsilon: float = 9.0) -> Quarry:
    ids = torch.arange(len(x))
    return Quarry(x, torch.zeros_like(ids), Lp("l1", epsilon, *BOX), keyed(0, ids))


def moved(x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Return the moves (B, D) of one step from x."""
    hunted = quarry(x)
    walk = begin_ascent(hunted, torch.tensor(STEP).double(), start=False)
    one = torch.zeros(len(x))
    return ascend(walk, Seen(x, one[:, None], one, gradient, one > 0), hunted).point - x


def test_three_entries_share_the_step() -> None:
    """One in a hundred of 300 entries: a third of the step for each of the three steepest."""
    torch.manual_seed(0)
    x, gradient = torch.rand(4, ENTRIES), torch.randn(4, ENTRIES)
    best = gradient.abs().topk(3, dim=1).indices
    wanted = torch.zeros_like(x).scatter_(1, best, gradient.gather(1, best).sign() * STEP / 3)
    assert torch.allclose(moved(x, gradient), wanted, atol=1e-6)


def test_entries_at_their_wall_take_no_share() -> None:
    """Those at a wall that they climb to, or off it by a rounding; not those that climb away."""
    x, gradient = torch.zeros(1, ENTRIES), torch.arange(1.0, ENTRIES + 1)[None]
    gradient[0, -2] *= -1
    x[0, -1], x[0, -2], x[0, -3], x[0, -4] = 3.0, -1.0, 3 - 1e-6, -1.0
    stuck = [ENTRIES - 1, ENTRIES - 2, ENTRIES - 3]
    found = moved(x, gradient)
    assert found[0, stuck].abs().max() < 1e-5
    assert torch.allclose(found[0, -6:-3], torch.tensor(STEP / 3), atol=1e-6)
    room = with_room(gradient, x, quarry(x))
    assert not room[0, stuck].any()
    assert torch.equal(room[0, :-3], gradient[0, :-3])


def test_a_gradient_of_few_entries_moves_no_more_of_them() -> None:
    """Of two slopes that are not 0 the third share of the step goes nowhere."""
    gradient = torch.zeros(1, ENTRIES)
    gradient[0, :2] = torch.tensor([2.0, -0.1])
    found = moved(torch.zeros(1, ENTRIES), gradient)
    assert torch.allclose(found[0, :2], torch.tensor([STEP, -STEP]) / 3, atol=1e-6)
    assert not found[0, 2:].any()
