"""The largest value of a linear function over ball and box: exact, and never too small."""

import itertools
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trustml.affine import strongest_move
from trustml.bounds import _reach
from trustml.bounds._reach import farthest, region
from trustml.threats import Lp

PLACES = st.floats(0, 1, width=32)


@given(
    st.lists(st.tuples(st.floats(-3, 3, width=32), PLACES), min_size=1, max_size=6),
    st.sampled_from(["linf", "l2", "l1", "l0"]),
    st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.5, float("inf")]),
)
def test_the_least_value_is_that_of_the_best_move(
    entries: list[tuple[float, float]], norm: str, epsilon: float
) -> None:
    """`strongest_move` finds the best move by another way (sorting), and the two must meet."""
    weight = torch.tensor([[w for w, _ in entries]], dtype=torch.float64)
    x = torch.tensor([[v for _, v in entries]])
    threat = Lp(norm, epsilon)
    found = region(x, threat, x.device).lowest(weight, torch.tensor([0]))
    # Class 1 passes class 0 where weight · x falls.
    rows = torch.cat([weight, torch.zeros_like(weight)])
    far = torch.tensor(min(epsilon, 1e6), dtype=torch.float64)
    zero, y = torch.zeros(2).double(), torch.tensor([0])
    move = strongest_move(rows, zero, x, y, norm, far, (0.0, 1.0))
    least = float((weight * (x.double() + move)).sum())
    assert float(found) <= least + 1e-15
    assert float(found) == pytest.approx(least, abs=1e-7)


def test_hand_worked_values() -> None:
    """Weights (3, −4), x = (.5, .9): down by 3 a unit on the first, by 4 on the second up to 1."""
    weight, x = torch.tensor([[3.0, -4.0]]).double(), torch.tensor([[0.5, 0.9]])
    start = 1.5 - 3.6
    wanted = {
        ("linf", 0.2): 3 * 0.2 + 4 * 0.1,
        ("l1", 0.3): 4 * 0.1 + 3 * 0.2,
        ("l2", 0.5): 4 * 0.1 + 3 * (0.25 - 0.01) ** 0.5,
        ("l2", 0.1): 5 * 0.1,
        ("l0", 1.0): 3 * 0.5,
        ("l0", 2.0): 3 * 0.5 + 4 * 0.1,
    }
    for (norm, epsilon), fall in wanted.items():
        found = region(x, Lp(norm, epsilon), x.device).lowest(weight, torch.tensor([0]))
        assert float(found) == pytest.approx(start - fall, abs=1e-6), (norm, epsilon)


def test_any_multiplier_bounds_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weak duality: with Newton's method cut short the L2 bound is loose, never too low."""
    torch.manual_seed(0)
    slope, room = torch.rand(300, 8).double() * 4, torch.rand(300, 8).double() * 0.4
    epsilon = torch.full((300, 1), 0.4).double()
    done = farthest(slope, room, epsilon, "l2")
    monkeypatch.setattr(_reach, "_NEWTON_STEPS", 0)
    cut_short = farthest(slope, room, epsilon, "l2")
    assert bool((cut_short >= done - 1e-9).all())
    assert float((cut_short - done).max()) > 1e-3


def test_a_budget_for_each_sample() -> None:
    """Two samples, two budgets, asked in any order."""
    x, weight = torch.full((2, 3), 0.5), torch.ones(4, 3).double()
    around = region(x, Lp("l2", torch.tensor([0.1, 0.2])), x.device)
    found = around.lowest(weight, torch.tensor([1, 0, 0, 1]))
    expected = [1.5 - 3**0.5 * e for e in (0.2, 0.1, 0.1, 0.2)]
    assert found.tolist() == pytest.approx(expected, abs=1e-7)


def test_no_point_of_a_grid_is_lower() -> None:
    """Every point of a fine grid that the threat allows, for each norm."""
    x, weight = torch.tensor([[0.3, 0.8]]), torch.tensor([[1.3, -0.7]]).double()
    ticks = torch.linspace(0, 1, 101).tolist()
    grid = torch.tensor(list(itertools.product(ticks, ticks)))
    for norm, epsilon in (("linf", 0.25), ("l2", 0.4), ("l1", 0.5), ("l0", 1.0)):
        threat = Lp(norm, epsilon)
        allowed = grid[threat.contains(grid, x.expand_as(grid))]
        least = float((allowed.double() @ weight[0]).min())
        found = float(region(x, threat, x.device).lowest(weight, torch.tensor([0])))
        assert found <= least
        assert found == pytest.approx(least, abs=0.02)


def test_rounding_never_lifts_the_bound_above_the_least_value() -> None:
    """In exact fractions no bound is above the least of Σ w · x over a cube.

    Without the room that is left for float64's own rounding about half of them were.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 60, generator=generator).double()
    x, epsilon = torch.rand(40, 60, generator=generator), 0.0625
    found = region(x, Lp("linf", epsilon), x.device).lowest(weight, torch.arange(40))
    for bound, row, point in zip(found.tolist(), weight.tolist(), x.tolist(), strict=True):
        ends = ((max(v - epsilon, 0.0), min(v + epsilon, 1.0)) for v in map(Fraction, point))
        least = sum(
            min(Fraction(w) * end for end in pair) for w, pair in zip(row, ends, strict=True)
        )
        assert bound <= least
