"""Sign-OPT against the closed-form L2 distance to the border of linear models."""

import pytest

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.sign_opt import sign_opt
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("values", [False, True], ids=["signs", "values"])
@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_it_comes_to_the_border_of_a_linear_model(values: bool, aimed: bool) -> None:
    """The distance over directions has one minimum, at w."""
    options = {"queries": 3000, "looks": 30, "values": values, "aimed": aimed}
    assert fooled("sign_opt", "l2", 1.15, **options) > 0.9
    assert fooled("sign_opt", "l2", 0.99, **options) == 0.0


@pytest.mark.parametrize("queries", [1, 60, 300])
def test_no_more_is_asked_than_allowed(queries: int) -> None:
    """The model would raise BudgetSpent at one more; without a start all tries are made."""
    assert bool((spent("sign_opt", "l2", queries=queries) == min(queries, 101)).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"looks": 0}], ids=str)
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        sign_opt(model, x, y, Lp("l2", 1.0), random=keyed(0, IDS), **options)
