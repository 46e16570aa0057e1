"""Pointwise against models of which it is known how many entries must change."""

import pytest
import torch
from torch import Tensor

from tests.attacks.two_classes import IDS, SAMPLES, linear
from trustml.access import Handed
from trustml.attacks.pointwise import pointwise
from trustml.contracts import Access
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

INFINITE = float("inf")
ZERO = torch.zeros(SAMPLES, dtype=torch.int64)


def five(x: Tensor) -> Tensor:
    """Class 1 just where five entries or more are white."""
    white = (x.flatten(1) == 1).sum(1)
    return torch.stack([torch.full_like(white, 4.5, dtype=torch.float32), white.float()], 1)


def test_all_that_need_not_be_changed_is_put_back() -> None:
    """From black, five white entries are the least, and any five will do."""
    x = torch.zeros(SAMPLES, 1, 6, 6)
    found = pointwise(five, x, ZERO, Lp("l0", INFINITE), random=keyed(0, IDS), queries=400)
    assert bool((five(found).argmax(1) == 1).all())
    assert bool((distance(found, x, "l0") == 5).all())


def test_no_single_entry_could_be_put_back() -> None:
    """Whatever the model, each entry that is left was tried alone."""
    model, x, y = linear((1, 5, 6))
    found = pointwise(model, x, y, Lp("l0", INFINITE), random=keyed(0, IDS), queries=2000)
    won = model(found).argmax(1) != y
    assert int(won.sum()) >= 10
    for entry in range(30):
        less = found.flatten(1).clone()
        less[:, entry] = x.flatten(1)[:, entry]
        changed = won & (less != found.flatten(1)).any(1)
        assert bool((model(less)[changed].argmax(1) == y[changed]).all())


@pytest.mark.parametrize("queries", [1, 2, 30])
def test_no_more_is_asked_than_allowed(queries: int) -> None:
    """The model would raise BudgetSpent at one more."""
    handed = Handed(five, Access.LABELS, SAMPLES, budget=queries)
    x = torch.zeros(SAMPLES, 1, 9, 9)
    pointwise(handed, x, ZERO, Lp("l0", INFINITE), random=keyed(0, IDS), queries=queries)


@pytest.mark.parametrize("options", [{"queries": 0}, {"start": 0.0}, {"start": 1.0}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        pointwise(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), **options)


def test_which_entries_stay_is_left_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """From all white any five of 81 will do: those of twelve samples lie all over.

    The middle of 81 places is 40; five standard errors of 60 draws are 15.
    """
    x = torch.zeros(SAMPLES, 1, 9, 9)

    def white(*_: object) -> tuple[Tensor, Tensor]:
        return torch.ones_like(x), torch.ones(SAMPLES, dtype=torch.bool)

    monkeypatch.setattr("trustml.attacks.pointwise.blended", white)
    found = pointwise(five, x, ZERO, Lp("l0", INFINITE), random=keyed(0, IDS), queries=600)
    left = (found != x).flatten(1)
    assert bool((left.sum(1) == 5).all())
    assert len({tuple(row.tolist()) for row in left}) == SAMPLES
    assert len(left.any(0).nonzero()) > 30
    assert abs(float(left.nonzero()[:, 1].double().mean()) - 40) < 15


def test_what_is_returned_is_in_the_ball() -> None:
    """Five are needed: with four allowed the nearest misread point is cut to four changes."""
    x, threat = torch.zeros(SAMPLES, 1, 6, 6), Lp("l0", 4.0)
    found = pointwise(five, x, ZERO, threat, random=keyed(0, IDS), queries=400)
    assert bool((distance(found, x, "l0") == 4).all())
