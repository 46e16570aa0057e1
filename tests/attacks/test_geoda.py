"""GeoDA against the closed-form distances to the border of linear models."""

import pytest

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.geoda import geoda
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_it_comes_to_the_border_of_a_linear_model(norm: str, aimed: bool) -> None:
    """The normal is w everywhere, so labels of all turns add up; along w the border is nearest.

    In L1 it is so along the steepest entry, which few labels tell from the next.
    """
    options = {"queries": 2000, "lowest": 1.0, "aimed": aimed}
    assert fooled("geoda", norm, 1.15, **options) >= (0.7 if norm == "l1" else 1.0)
    assert fooled("geoda", norm, 0.99, **options) == 0.0


@pytest.mark.parametrize("queries", [1, 60, 300])
def test_no_more_is_asked_than_allowed(queries: int) -> None:
    """The model would raise BudgetSpent at one more; without a start all tries are made."""
    assert bool((spent("geoda", "l2", queries=queries) == min(queries, 101)).all())


@pytest.mark.parametrize(
    "options", [{"queries": 0}, {"evaluations": 0}, {"lowest": 0.0}, {"lowest": 1.1}], ids=str
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        geoda(model, x, y, Lp("l2", 1.0), random=keyed(0, IDS), **options)
