"""FAB: its targets, its restarts, what it refuses."""

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._nearest import Nearest, at_home
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks.fab import Boundary, _advance, _begin_at_random, _see, fab
from trustml.contracts import Access, Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

X, Y = torch.full((4, 3), 0.5), torch.zeros(4, dtype=torch.long)
RANDOM = keyed(0, torch.arange(4))
IDS = torch.arange(2000)


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


def stood(point: list[float], lead: float, reached: bool) -> tuple[Quarry, Seen]:
    """One sample at the origin of an endless L2 plane, whose border is where x₀ is 1."""
    x = torch.zeros(1, 2)
    quarry = Quarry(x, Y[:1], Lp("l2", float("inf"), -9.0, 9.0), keyed(0, torch.arange(1)))
    slope, logits = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    losses, won = torch.tensor([lead]), torch.tensor([reached])
    return quarry, Seen(torch.tensor([point]), logits, losses, slope, won)


def test_a_step_is_drawn_a_tenth_of_the_way_to_the_input() -> None:
    """Croce & Hein 2020, equation 9 with α ≤ 0.1 and η = 1.05.

    From (0.5, 3) the plane is 0.5 away and from the input 1, so α would be 1/3 and is cut to 0.1;
    from (0.95, 3) it is 0.05 / 1.05. Both moves go 1.05 times as far as their planes.
    """
    for first, share in ((0.5, 0.1), (0.95, 0.05 / 1.05)):
        quarry, seen = stood([first, 3.0], first - 1, reached=False)
        after = _advance(Boundary(seen.point), seen, quarry, at_home(corners_of_plane, quarry))
        expected = (1 - share) * torch.tensor([[first + 1.05 * (1 - first), 3.0]])
        expected[0, 0] += share * 1.05
        assert torch.allclose(after.point, expected, atol=1e-5)


def test_a_point_that_won_is_left_backwards() -> None:
    """Algorithm 1, β = 0.9: from (2, 3) the walk goes on at (1.8, 2.7), by the plane read before.

    From there the plane x₀ = 1 is 0.8 away and from the input 1: α is 0.8 / 1.8, cut to 0.1.
    """
    quarry, seen = stood([2.0, 3.0], 1.0, reached=True)
    after = _advance(Boundary(seen.point), seen, quarry, at_home(corners_of_plane, quarry))
    expected = 0.9 * torch.tensor([[1.8 - 1.05 * 0.8, 2.7]]) + 0.1 * torch.tensor([[1.05, 0.0]])
    assert torch.allclose(after.point, expected, atol=1e-5)


def corners_of_plane(x: Tensor) -> Tensor:
    return torch.stack([0 * x[:, 0], x[:, 0] - 1], 1)


def test_random_starts_fill_half_the_known_distance() -> None:
    """§3.4: uniform in the ball of half the distance found so far, or of half the budget."""
    many = torch.zeros(2000, 2)
    for budget, radius in ((float("inf"), 0.3), (0.2, 0.1)):
        threat = Lp("linf", budget, -9.0, 9.0)
        quarry = Quarry(many, torch.zeros(2000, dtype=torch.long), threat, keyed(0, IDS))
        known = Nearest(many, torch.full((2000,), 0.6, dtype=torch.float64))
        far = distance(_begin_at_random(quarry, known).point, many, "linf")
        assert float(far.max()) <= radius * (1 + 1e-6)
        # Half of a square's points lie beyond √½ of its half side.
        beyond = (far > radius * 0.5**0.5).double().mean()
        assert abs(float(beyond) - 0.5) < 4 * 0.5 / 2000**0.5
