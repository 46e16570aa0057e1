"""One pixel against the closed forms of linear models."""

import pytest
import torch

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.one_pixel import one_pixel
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_a_linear_model_is_misread_with_few_entries_more(aimed: bool) -> None:
    """Twice the least number of entries suffices; fewer than the least do for none."""
    assert fooled("one_pixel", "l0", 2.0, queries=3000, aimed=aimed) > 0.9
    assert fooled("one_pixel", "l0", 0.99, queries=500, aimed=aimed) == 0.0


def test_one_entry_climbs_to_the_best_of_a_linear_model() -> None:
    """The steepest entry at its better wall: evolution comes within a twentieth of its rise."""
    model, x, y = linear((1, 5, 6))
    weight = model[1].weight.detach()
    rise = weight[1 - y] - weight[y]
    flat = x.flatten(1)
    best = torch.maximum(rise * (1 - flat), -rise * flat).amax(1)
    candidate = one_pixel(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), queries=2000)
    gain = (rise * (candidate - x).flatten(1)).sum(1)
    won = model(candidate).argmax(1) != y
    assert bool((won | (gain > 0.95 * best)).all())
    assert bool((distance(candidate, x, "l0") == 1).all())


def test_whole_generations_are_asked_about() -> None:
    assert bool((spent("one_pixel", "l0", queries=99, population=20) == 81).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"population": 3}], ids=str)
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        one_pixel(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), **options)
