"""Balls cut with the box: never left by an ulp, nearest points, steepest steps."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from trustml.contracts import Norm
from trustml.geometry import diameter, distance, interval, project, pull, steepest

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
every_norm = pytest.mark.parametrize("norm", NORMS)


def scene(seed: int, entries: int, rows: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs in [0, 1], some on its walls, and candidates well outside of ball and box."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(rows, entries, generator=generator)
    walls = torch.rand(rows, entries, generator=generator) < 0.2
    x = torch.where(walls, x.round(), x)
    return x, x + 1.5 * torch.randn(rows, entries, generator=generator)


@every_norm
def test_distance_is_the_norm_of_the_difference(norm: Norm) -> None:
    """A move of (3, −4, 0) has norms 4, 5, 7 and 2 entries by definition."""
    far = distance(torch.tensor([[4.0, -3.0, 1.0]]), torch.tensor([[1.0, 1.0, 1.0]]), norm)
    assert far.item() == {"linf": 4, "l2": 5, "l1": 7, "l0": 2}[norm]


@every_norm
@given(
    seed=st.integers(0, 2**31),
    entries=st.integers(1, 40),
    epsilon=st.floats(1e-6, 50) | st.sampled_from([0.0, 1e-30, 8 / 255, 0.3, float("inf")]),
)
def test_projections_stay_inside_by_every_bit(
    norm: Norm, seed: int, entries: int, epsilon: float
) -> None:
    """The promise is exact: float64 distance ≤ epsilon, in the box; a second one is idle."""
    x, candidate = scene(seed, entries)
    budget = torch.tensor(epsilon, dtype=torch.float64)
    moved = project(candidate, x, norm, budget, (0.0, 1.0))
    assert bool((distance(moved, x, norm) <= epsilon).all())
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert torch.equal(project(moved, x, norm, budget, (0.0, 1.0)), moved)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("epsilon", [0.05, 0.4, 1.0, 2.5])
def test_projection_is_the_nearest_point(norm: Norm, epsilon: float) -> None:
    """Truth: scipy's constrained minimiser of the distance to the candidate, in five dimensions."""
    x, candidate = scene(3, 5, rows=6)
    budget = torch.tensor(epsilon, dtype=torch.float64)
    moved = project(candidate, x, norm, budget, (0.0, 1.0)).double().numpy()
    for start, wish, found in zip(
        x.double().numpy(), candidate.double().numpy(), moved, strict=True
    ):
        # Split into ups and downs, so that the L1 constraint is smooth too.
        def apart(z: np.ndarray, start: np.ndarray = start, wish: np.ndarray = wish) -> float:
            return float(((start + z[:5] - z[5:] - wish) ** 2).sum())

        def room(z: np.ndarray) -> float:
            move = z[:5] - z[5:]
            return epsilon**2 - float((move**2).sum()) if norm == "l2" else epsilon - float(z.sum())

        bounds = [(0, 1 - s) for s in start] + [(0, s) for s in start]
        truth = minimize(
            apart, np.zeros(10), bounds=bounds, constraints={"type": "ineq", "fun": room},
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        assert apart(np.concatenate([(found - start).clip(0), (start - found).clip(0)])) <= (
            truth.fun * (1 + 1e-4)  # SLSQP oversteps its constraint a little
        )


@pytest.mark.parametrize("norm", ["l2", "l1"])
@given(seed=st.integers(0, 2**31), epsilon=st.floats(0.01, 5))
def test_no_allowed_point_lies_nearer(norm: Norm, seed: int, epsilon: float) -> None:
    """The projection theorem: ⟨wish − found, other − found⟩ ≤ 0 for every other allowed point."""
    x, candidate = scene(seed, 8)
    budget = torch.tensor(epsilon, dtype=torch.float64)
    found = project(candidate, x, norm, budget, (0.0, 1.0)).double()
    for other_seed in range(5):
        _, wish = scene(seed + 1 + other_seed, 8)
        other = project(wish, x, norm, budget, (0.0, 1.0)).double()
        leaning = ((candidate.double() - found) * (other - found)).sum(1)
        assert bool((leaning <= 1e-5).all())


def test_l0_keeps_the_entries_that_matter_most() -> None:
    """Of moves 0.1, 0.9 (cut to 0.5 by the box), −0.6 and 0.2, −0.6 and the cut one are kept."""
    x = torch.tensor([[0.5, 0.5, 0.7, 0.5]])
    candidate = x + torch.tensor([[0.1, 0.9, -0.6, 0.2]])
    moved = project(candidate, x, "l0", torch.tensor(2.0), (0.0, 1.0))
    assert torch.allclose(moved, torch.tensor([[0.5, 1.0, 0.1, 0.5]]))


def test_l0_projections_are_the_nearest_of_all_choices() -> None:
    """Brute force over every two of six entries; wishes lie far beyond the box."""
    x, candidate = scene(5, 6, rows=60)
    moved = project(candidate, x, "l0", torch.tensor(2.0), (0.0, 1.0))
    boxed, best = candidate.clamp(0, 1), torch.full((60,), torch.inf)
    for pair in combinations(range(6), 2):
        other = x.clone()
        other[:, pair] = boxed[:, pair]
        best = torch.minimum(best, (other - candidate).square().sum(1))
    assert torch.allclose((moved - candidate).square().sum(1), best)


def test_interval_is_as_wide_as_floats_allow() -> None:
    """No bound is beyond epsilon, nor within it by more than 4 roundings of what was added."""
    x, _ = scene(0, 200)
    for epsilon in (8 / 255, 0.3, 1e-7):
        lower, upper = interval(x, torch.tensor(epsilon, dtype=torch.float64), 0.0, 1.0)
        rounding = 2.0**-24 * torch.maximum(x + epsilon, torch.full_like(x, epsilon)).double()
        for way, at_wall in ((x.double() - lower, lower == 0), (upper - x.double(), upper == 1)):
            assert bool((way <= epsilon).all())
            assert bool((at_wall | (way >= epsilon - 4 * rounding)).all())


@every_norm
def test_one_epsilon_a_sample(norm: Norm) -> None:
    """Each row must come out as it does alone with its own epsilon."""
    x, candidate = scene(1, 12, rows=3)
    budgets = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    together = project(candidate, x, norm, budgets[:, None], (0.0, 1.0))
    for row in range(3):
        part = slice(row, row + 1)
        alone = project(candidate[part], x[part], norm, budgets[row], (0.0, 1.0))
        assert torch.equal(together[part], alone)


@every_norm
def test_pull_lands_inside_but_for_rounding(norm: Norm) -> None:
    """Within a millionth: then the exact projection at the end changes no verdict to speak of."""
    x, candidate = scene(2, 60)
    for epsilon in (0.05, 1.0, 7.0):
        budget = torch.tensor(epsilon, dtype=torch.float64)
        moved = pull(candidate, x, norm, budget, (0.0, 1.0))
        assert bool((distance(moved, x, norm) <= epsilon + 1e-6).all())
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_pull_lands_a_hair_inside(norm: Norm) -> None:
    """Whatever float32 rounds, what is judged in a loop needs no move afterwards; no more is lost.

    Away from the walls the ball's edge is missed by a hundredth at most; who is inside, stays.
    """
    generator = torch.Generator().manual_seed(0)
    x = 0.4 + 0.2 * torch.rand(500, 60, generator=generator)
    candidate = x + torch.randn(500, 60, generator=generator)
    budget = torch.tensor(0.3, dtype=torch.float64)
    far = distance(pull(candidate, x, norm, budget, (0.0, 1.0)), x, norm)
    assert bool((far <= 0.3).all())
    assert bool((far >= 0.3 * 0.99).all())
    near = x + 1e-3 * torch.randn(500, 60, generator=generator)
    assert torch.allclose(pull(near, x, norm, budget, (0.0, 1.0)), near, atol=1e-6)


@every_norm
def test_pull_goes_to_the_nearest_point_but_for_rounding(norm: Norm) -> None:
    """As `project`, to 3 % of epsilon; in L2 to the ball and then to the box, by formula."""
    x, candidate = scene(2, 60)
    for epsilon in (0.05, 1.0, 7.0):
        budget = torch.tensor(epsilon, dtype=torch.float64)
        moved = pull(candidate, x, norm, budget, (0.0, 1.0))
        if norm == "l2":
            move = candidate - x
            size = move.norm(dim=1, keepdim=True)
            wanted = (x + move * (epsilon / size).clamp(max=1.0)).clamp(0.0, 1.0)
        else:
            wanted = project(candidate, x, norm, budget, (0.0, 1.0))
        assert float((moved - wanted).abs().max()) <= 0.03 * epsilon


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2), ("l1", float("inf"))])
def test_steepest_reaches_the_dual_norm(norm: Norm, dual: float) -> None:
    """Over the unit ball, ⟨g, step⟩ is at most the dual norm of g (Hölder), and reaches it."""
    gradient = torch.randn(7, 3, 5)
    step = steepest(gradient, norm)
    climbed = (gradient * step).flatten(1).sum(1)
    assert torch.allclose(climbed, torch.linalg.vector_norm(gradient.flatten(1), dual, dim=1))
    assert bool((distance(step, torch.zeros_like(step), norm) <= 1 + 1e-6).all())
    assert not steepest(torch.zeros(2, 4), norm).any()


def test_a_sparse_step_is_shared_equally() -> None:
    """A third each for the three steepest entries, so that the step has L1 norm 1."""
    step = steepest(torch.tensor([[0.1, -5.0, 2.0, 0.0, 3.0]]), "l1", share=3)
    assert torch.allclose(step, torch.tensor([[0.0, -1.0, 1.0, 0.0, 1.0]]) / 3)


@every_norm
def test_diameter_is_the_distance_between_corners(norm: Norm) -> None:
    """The farthest two points of the box are opposite corners."""
    low, high = torch.full((1, 9), -1.0), torch.full((1, 9), 2.0)
    assert diameter(norm, 3.0, 9) == pytest.approx(distance(low, high, norm).item())
