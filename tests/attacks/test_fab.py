"""FAB: its targets, its restarts, what it refuses."""

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._pursuit import Quarry
from trustml.attacks.fab import Boundary, _see, fab
from trustml.contracts import Access, Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

X, Y = torch.full((4, 3), 0.5), torch.zeros(4, dtype=torch.long)
RANDOM = keyed(0, torch.arange(4))


def corners(x: Tensor) -> Tensor:
    """Class 1 beyond x₀ = 0.9, likelier at the centre; class 2 beyond x₁ = 0.7, nearer to it."""
    return torch.stack([x[:, 0] * 0 + 1, 1 + (x[:, 0] - 0.9), 1 + 9 * (x[:, 1] - 0.7)], 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_each_target_is_walked_to(norm: Norm) -> None:
    """One axis decides, so the distance is 0.4 to the likeliest class and 0.2 to the other."""
    threat = Lp(norm, float("inf"))
    first = fab(corners, X, Y, threat, random=RANDOM, steps=20, targets=1)
    assert bool((corners(first).argmax(1) == 1).all())
    assert torch.allclose(distance(first, X, norm), torch.tensor(0.4).double(), rtol=0.01)
    for targets in (0, 2, 9):
        both = fab(corners, X, Y, threat, random=RANDOM, steps=20, targets=targets)
        assert bool((corners(both).argmax(1) == 2).all())
        assert torch.allclose(distance(both, X, norm), torch.tensor(0.2).double(), rtol=0.01)


def test_passes_are_as_many_as_said() -> None:
    """A look is a forward and a backward; without targets, a backward for each other class.

    Besides: one look at the inputs, one for the order of targets, eight to halve the way.
    """
    for targets, forwards, backwards in ((0, 1 + 7 + 8, 2 * 7), (2, 1 + 1 + 14 + 8, 14)):
        handed = Handed(corners, Access.GRADIENTS, 4, block=4)
        fab(handed, X, Y, Lp("l2", 1.0), random=RANDOM, steps=7, targets=targets)
        assert handed.forwards.tolist() == [forwards] * 4
        assert handed.backwards.tolist() == [backwards] * 4


def hidden(x: Tensor) -> Tensor:
    """Class 1 beyond x₀ = 0.9, which the gradient at the centre shows; and below x₁ = 0.35."""
    shown, secret = x[:, 0] - 0.9, (0.35 - x[:, 1]) * (x[:, 1] < 0.45)
    return torch.stack([x[:, 0] * 0, torch.where(x[:, 1] < 0.45, secret, shown)], 1)


def test_restarts_find_what_the_first_walk_cannot_see() -> None:
    """From the input only the border 0.4 away is seen; begun beyond 0.45, the one at 0.15 is."""
    threat = Lp("linf", float("inf"))
    once = fab(hidden, X, Y, threat, random=RANDOM, steps=20)
    assert torch.allclose(distance(once, X, "linf"), torch.tensor(0.4).double(), rtol=0.01)
    often = fab(hidden, X, Y, threat, random=RANDOM, steps=20, restarts=8)
    assert torch.allclose(distance(often, X, "linf"), torch.tensor(0.15).double(), rtol=0.01)


@pytest.mark.parametrize("options", [{"steps": 0}, {"restarts": 0}, {"targets": -1}], ids=str)
def test_options_out_of_range(options: dict[str, int]) -> None:
    """Counts start at 1, targets at 0."""
    with pytest.raises(BadOption, match=f"{next(iter(options))}={next(iter(options.values()))}"):
        fab(corners, X, Y, Lp("l2", 1.0), random=RANDOM, **options)


def test_what_one_look_says_is_how_far_the_class_is_ahead() -> None:
    """Above 0 just where the attacker wins, whichever way the goal is put, with that slope."""
    logits = corners(X)
    for target, targeted, lead in ((1, False, logits[:, 1] - logits[:, 0]), (None, True, None)):
        aim = None if target is None else torch.full_like(Y, target)
        quarry = Quarry(X, Y, Lp("l2", 1.0, targeted=targeted), RANDOM, aim)
        seen = _see(corners, Boundary(X), quarry)
        # The wanted class is 0: ahead of the best other, which is 1.
        wanted = lead if lead is not None else logits[:, 0] - logits[:, 1]
        assert torch.allclose(seen.losses, wanted)
        way = 1.0 if not targeted else -1.0
        assert torch.allclose(seen.gradient[:, 0], torch.full((4,), way))
