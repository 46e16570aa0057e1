"""What attacks that see labels only share: the start, the bisection, the count."""

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._decision import Oracle, Trail, begin, bisected, still_on
from trustml.contracts import Access, Norm
from trustml.errors import BudgetSpent
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

ROWS = torch.arange(6)


def half_space(x: Tensor) -> Tensor:
    """Class 1 where the first entry is above 0.8."""
    margin = x.flatten(1)[:, 0] - 0.8
    return torch.stack([-margin, margin], 1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("steps", [4, 11])
def test_bisection_ends_within_a_power_of_two_of_the_border(norm: Norm, steps: int) -> None:
    """The border is where the first entry is 0.8; in Linf that is 0.8 − x₀ from x."""
    x, far = torch.zeros(6, 3) + 0.01 * ROWS[:, None], torch.ones(6, 3)
    oracle = Oracle(half_space, torch.zeros_like(ROWS), Lp(norm, 1.0), 100)
    found = bisected(oracle, ROWS, x, far, norm, steps)
    width = far[:, 0] - x[:, 0]
    assert bool((found[:, 0] > 0.8).all())
    assert bool((found[:, 0] <= 0.8 + width / 2**steps + 1e-6).all())
    assert bool((oracle.left == 100 - steps).all())
    if norm == "l2":
        share = (found - x) / (far - x)
        assert torch.allclose(share, share[:, :1].expand(-1, 3), atol=1e-6)
    else:
        assert torch.allclose(distance(found, x, "linf"), (found - x)[:, 0].double(), atol=1e-6)


def test_a_start_is_found_and_counted_for_each_sample() -> None:
    """Those misread as they are start at distance 0; those with no budget are not looked for."""
    x = torch.zeros(6, 1, 2, 2)
    x[0] = 0.9
    threat = Lp("l2", torch.tensor([1.0, 1, 1, 1, 1, 0]))
    handed = Handed(half_space, Access.LABELS, 6, budget=50)
    oracle = Oracle(handed, torch.zeros_like(ROWS), threat, 50)
    trail = begin(oracle, x, threat, keyed(0, ROWS), 49)
    assert trail.rows.tolist() == [0, 1, 2, 3, 4]
    assert trail.distance[0] == 0
    assert bool((trail.distance[1:] > 0.8).all())
    # The negative of a dark picture is bright: one look at the input, one at its negative.
    assert handed.forwards.tolist() == [1, 2, 2, 2, 2, 1]
    assert torch.equal(50 - oracle.left, handed.forwards.long())


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 4), (7,), (2, 2, 2, 2)], ids=str)
def test_starts_are_in_the_box_and_of_several_kinds(shape: tuple[int, ...]) -> None:
    """A model that never errs sees every try."""
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    threat = Lp("l2", 1.0, -2.0, 3.0)
    oracle = Oracle(model, torch.zeros_like(ROWS), threat, 100)
    x = torch.rand(6, *shape) - 1
    trail = begin(oracle, x, threat, keyed(0, ROWS), 7)
    assert len(trail.rows) == 0
    assert len(seen) == 8
    points = torch.stack(seen[1:])
    assert bool((points >= -2).all() & (points <= 3).all())
    assert torch.allclose(points[0], 1 - x)
    assert set(points[3].unique().tolist()) == {-2.0, 3.0}
    assert not torch.equal(points[2][0], points[2][1])


def test_who_is_inside_the_goal_is_done() -> None:
    """Without a goal the nearest point is asked for, so being inside a ball ends nothing."""
    x = torch.zeros(6, 4)
    epsilon = torch.tensor([9.0, 9.0, 0.1, torch.inf, torch.inf, 0.1])
    threat = Lp("l2", epsilon)
    oracle = Oracle(half_space, torch.zeros_like(ROWS), threat, 100)
    trail = begin(oracle, x, threat, keyed(0, ROWS), 50)
    result = x.clone()
    spent = torch.tensor([False, True, False, False, True, False])
    assert still_on(trail, threat, result, spent).tolist() == [2, 5]
    assert still_on(trail, None, result, spent).tolist() == [0, 2, 3, 5]
    assert torch.equal(result, trail.best)


def test_the_oracle_asks_as_often_as_it_says() -> None:
    """The model's own ledger, which enforces the budget, agrees with the oracle's."""
    handed = Handed(half_space, Access.LABELS, 6, budget=5)
    oracle = Oracle(handed, torch.zeros_like(ROWS), Lp("l2", 1.0), 5)
    oracle(torch.rand(4, 2), ROWS[:2])
    oracle(torch.rand(2, 2), ROWS[4:])
    assert oracle.left.tolist() == [3, 3, 5, 5, 4, 4]
    assert torch.equal(5 - oracle.left, handed.forwards.long())
    with pytest.raises(BudgetSpent):
        oracle(torch.rand(8, 2), ROWS[:2])


def test_a_trail_remembers_the_nearest_point_that_it_was_at() -> None:
    """From 0.5 on to 0.9 the nearest stays 0.5; on to 0.2 it is that."""
    x, half = torch.zeros(6, 3), torch.zeros(6, 3)
    half[:, 0] = 0.5
    trail = Trail(ROWS, x, half, half, distance(half, x, "l2"))
    away = trail.to(1.8 * half, "l2")
    assert torch.equal(away.point, 1.8 * half)
    assert torch.equal(away.best, half)
    assert torch.equal(away.distance, trail.distance)
    back = away.to(0.4 * half, "l2")
    assert torch.equal(back.best, 0.4 * half)
    assert torch.equal(back.distance, distance(0.4 * half, x, "l2"))
