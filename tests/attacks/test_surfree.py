"""SurFree against the closed-form L2 distance to the border of linear models."""

import pytest
import torch

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks._decision import Oracle, Trail
from trustml.attacks._smooth import smooth
from trustml.attacks._windows import plane_of
from trustml.attacks.surfree import _along, _Arc, surfree
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_it_comes_to_the_border_of_a_linear_model(aimed: bool) -> None:
    """Circles through a flat border lead to its foot point, where x sees it at a right angle."""
    assert fooled("surfree", "l2", 1.2, queries=1500, lowest=1.0, aimed=aimed) > 0.9
    assert fooled("surfree", "l2", 0.99, queries=500, aimed=aimed) == 0.0


def test_waves_are_orthonormal_and_slow() -> None:
    """A quarter of 8 × 8 frequencies leaves 4 waves: what they span has rank 4, and unit length."""
    ways = smooth(keyed(0, IDS), plane_of((1, 8, 8)), 0.25, 20, ("way", 0))
    assert torch.allclose(ways.square().sum(2), torch.ones(20, 12, dtype=torch.float64))
    assert int(torch.linalg.matrix_rank(ways.flatten(0, 1), atol=1e-9)) == 4


@pytest.mark.parametrize("queries", [1, 60, 300])
def test_no_more_is_asked_than_allowed(queries: int) -> None:
    """The model would raise BudgetSpent at one more; without a start all tries are made."""
    assert bool((spent("surfree", "l2", queries=queries) == min(queries, 101)).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"lowest": 0.0}, {"lowest": 1.1}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        surfree(model, x, y, Lp("l2", 1.0), random=keyed(0, IDS), **options)


def trail() -> tuple[Trail, torch.Tensor]:
    """Samples at 0, points at distance 1 to 2 on the first axis, ways aside along the second."""
    x, point = torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    size = torch.linspace(1, 2, 4).double()
    point[:, 0] = size
    way = torch.tensor([[0.3, 1.0, 0.0]]).double().expand(4, 3)
    return Trail(torch.arange(4), x, point, point, size), way


def test_arcs_are_half_circles_over_the_way_to_the_input() -> None:
    """Thales: seen from any point of the circle, border and input are at a right angle.

    At the angle a it is cos a times as far from x, on the side that the sign says.
    """
    steps, way = trail()
    arc = _Arc(steps, way, Lp("l2", 9.0, -5, 5))
    for angle in (-1.2, -0.4, 0.4, 1.2):
        there = arc.at(torch.full((4,), angle).double(), torch.arange(4))
        size = torch.tensor(angle).double().cos() * steps.distance
        assert torch.allclose(there.norm(dim=1), size)
        assert torch.allclose((there * (there - steps.point)).sum(1), torch.zeros(4).double())
        assert bool((there[:, 1].sign() == torch.tensor(angle).sign()).all())


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_arc_is_followed_on_the_side_that_is_misread(side: float) -> None:
    """Misread beyond 0.8 of the first axis and on one side only: the last such point of the arc.

    Along it the first coordinate is size · cos² a, so that is where cos² a = 0.8 / size; the arc is
    halved four times from its first angle to a right one.
    """
    steps, way = trail()

    def model(z: torch.Tensor) -> torch.Tensor:
        lead = torch.minimum(z[:, 0] - 0.8, side * z[:, 1])
        return torch.stack([torch.zeros_like(lead), lead], 1)

    threat = Lp("l2", 9.0, -5, 5)
    oracle = Oracle(model, torch.zeros(4, dtype=torch.int64), threat, 100)
    first = torch.full((4,), 0.2).double()
    after, won = _along(oracle, steps, _Arc(steps, way, threat), first)
    assert bool(won.all())
    angle = (after.distance / steps.distance).acos()
    last = (0.8 / steps.distance).sqrt().acos()
    assert bool(((angle <= last) & (angle >= last - (torch.pi / 2 - 0.2) / 16)).all())
    assert bool((after.point[:, 1] * side > 0).all())
