"""ZOO against the closed forms of linear models."""

import pytest

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.zoo import zoo
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_a_linear_model_is_misread(aimed: bool) -> None:
    """Adam moves entries alike: of normal weights, that is off the optimum by 1 / 0.8."""
    assert fooled("zoo", "l2", 1.5, queries=500, aimed=aimed) == 1.0
    assert fooled("zoo", "l2", 0.99, queries=500, aimed=aimed) == 0.0


def test_a_pass_over_all_entries_takes_two_looks_each() -> None:
    """30 entries, 7 at once: 5 steps of 2 · 7 + 1, the last of 2 entries alone."""
    assert bool((spent("zoo", "l2", queries=80, entries=7) == 1 + 4 * 15 + 5).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"entries": 0}, {"stride": 0.0}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        zoo(model, x, y, Lp("l2", 0.1), random=keyed(0, IDS), **options)
