"""SurFree against the closed-form L2 distance to the border of linear models."""

import pytest
import torch

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks._smooth import smooth
from trustml.attacks._windows import plane_of
from trustml.attacks.surfree import surfree
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
