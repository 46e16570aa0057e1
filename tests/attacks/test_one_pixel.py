"""One pixel against the closed forms of linear models."""

import pytest
import torch
from torch import Tensor

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.one_pixel import _children, one_pixel
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


def looks(queries: int) -> tuple[Tensor, Tensor]:
    """Return which entries (Q, 12, 30) every look at a model that never errs changed, and to what.

    No entry counts for it, so no child is better than its parent, nor worse.
    """
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.flatten(1).clone())
        return torch.tensor([1.0, 0.0]).expand(len(x), 2)

    x, y = torch.full((12, 1, 5, 6), 0.5), torch.zeros(12, dtype=torch.int64)
    one_pixel(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), queries=queries)
    points = torch.cat(seen[1:]).view(-1, 12, 30)
    return points != 0.5, points


def test_the_first_generation_is_uniform() -> None:
    """240 members: rows, columns and values have the means of uniform numbers, within five errors.

    Of 30 entries none is spared; five standard errors of 240 draws of unit width are 0.093.
    """
    changed, points = looks(21)
    assert bool((changed.sum(2) == 1).all())
    place = changed.flatten(0, 1).long().argmax(1)
    assert len(place) == 240
    assert len(place.unique()) > 25
    assert abs(float((place // 6).double().mean()) - 2) < 5 * 0.093
    assert abs(float((place % 6).double().mean()) - 2.5) < 6 * 0.093
    assert abs(float(points[changed].double().mean()) - 0.5) < 0.093


def test_a_child_is_one_member_and_half_the_way_between_two_others() -> None:
    """By trying all triples: no member is its own parent thrice; what left [0, 1) is drawn anew."""
    genes = keyed(1, IDS).uniform((2, 6, 4), "genes")
    children = _children(genes, keyed(0, IDS), 1)
    assert bool(((children >= 0) & (children < 1)).all())
    kept = 0
    for member in range(6):
        others = [other for other in range(6) if other != member]
        fits = torch.zeros(12, dtype=torch.bool)
        for one in others:
            for two in set(others) - {one}:
                for three in set(others) - {one, two}:
                    made = genes[:, :, one] + 0.5 * (genes[:, :, two] - genes[:, :, three])
                    inside = (made >= 0) & (made < 1)
                    same = ((made - children[:, :, member]).abs() < 1e-6) | ~inside
                    fits |= same.flatten(1).all(1) & inside.flatten(1).any(1)
        kept += int(fits.sum())
    assert kept == 72


def test_children_that_are_better_take_their_parents_place() -> None:
    """Lost where one entry is within 0.001 of a value: chance alone hits that once in 15 000."""

    def model(x: Tensor) -> Tensor:
        near = 0.001 - (x.flatten(1)[:, 7] - 0.371).abs()
        return torch.stack([torch.zeros_like(near), near], 1)

    x, y = torch.zeros(12, 1, 5, 6), torch.zeros(12, dtype=torch.int64)
    found = one_pixel(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), queries=2000)
    assert int((model(found).argmax(1) == 1).sum()) >= 10
