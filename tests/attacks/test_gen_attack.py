"""GenAttack against the closed forms of linear models."""

import pytest

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.gen_attack import gen_attack
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_a_linear_model_is_misread(aimed: bool) -> None:
    """Mutations that are clipped end at the cube's vertex, so 1.2 of the least will do."""
    assert fooled("gen_attack", "linf", 1.2, queries=3000, aimed=aimed) == 1.0
    assert fooled("gen_attack", "linf", 0.99, queries=500, aimed=aimed) == 0.0


def test_the_best_lives_on_and_is_not_asked_about_again() -> None:
    """One query for the input, 6 for the first generation, 5 for each that follows."""
    assert bool((spent("gen_attack", "linf", queries=99) == 1 + 6 + 18 * 5).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"population": 1}], ids=str)
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        gen_attack(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options)
