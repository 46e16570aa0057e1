"""Sparse-RS against the closed forms of linear models."""

import pytest
import torch

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.sparse_rs import sparse_rs
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_a_linear_model_is_solved(aimed: bool) -> None:
    """Single swaps to the better wall end at the best set of entries; fewer entries do for none."""
    assert fooled("sparse_rs", "l0", 1.0, queries=2000, aimed=aimed) == 1.0
    assert fooled("sparse_rs", "l0", 0.99, queries=500, aimed=aimed) == 0.0


@pytest.mark.parametrize("values", ["walls", "image"])
def test_the_budget_is_used_and_what_is_changed_is_told(values: str) -> None:
    """So many entries differ: at walls of the box, or at values of the same input."""
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return torch.stack([torch.ones(len(x)), 0.1 * x.flatten(1)[:, ::2].sum(1) / 15], 1)

    x = linear((1, 5, 6))[1]
    budget = torch.arange(12).double()
    y = torch.zeros(12, dtype=torch.int64)
    sparse_rs(model, x, y, Lp("l0", budget), random=keyed(0, IDS), queries=60, values=values)
    for look in seen[1:]:
        changed = (look != x[1:]).flatten(1)
        if values == "walls":
            assert torch.equal(changed.sum(1), torch.arange(1, 12))
            assert bool((look.flatten(1)[changed] % 1 == 0).all())
        else:
            assert bool((changed.sum(1) <= torch.arange(1, 12)).all())
            assert bool((look.flatten(1)[:, :, None] == x[1:].flatten(1)[:, None]).any(2).all())
    assert len({tuple(look[5].flatten().tolist()) for look in seen}) > 30


@pytest.mark.parametrize("queries", [1, 2, 50])
def test_every_query_is_spent_and_none_more(queries: int) -> None:
    assert bool((spent("sparse_rs", "l0", queries=queries) == queries).all())


@pytest.mark.parametrize("options", [{"queries": 0}, {"swapped": 0.0}, {"swapped": 1.1}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        sparse_rs(model, x, y, Lp("l0", 1.0), random=keyed(0, IDS), **options)


def test_swaps_that_help_are_kept() -> None:
    """Only the first eight of 30 entries count, all of them must be white: chance finds none."""

    def model(x: torch.Tensor) -> torch.Tensor:
        white = x.flatten(1)[:, :8].sum(1)
        return torch.stack([torch.full_like(white, 7.5), white], 1)

    x, y = torch.zeros(12, 1, 5, 6), torch.zeros(12, dtype=torch.int64)
    found = sparse_rs(model, x, y, Lp("l0", 8.0), random=keyed(0, IDS), queries=2000)
    assert bool((found.flatten(1)[:, :8] == 1).all())


def test_where_all_entries_may_change_their_values_do() -> None:
    """Each of 30 entries has a wall at which it counts: all at the right one, or it is not lost.

    Nothing can be swapped for anything, so it is new values that are tried.
    """
    wall = torch.rand(30, generator=torch.Generator().manual_seed(3)) < 0.5

    def model(x: torch.Tensor) -> torch.Tensor:
        right = (x.flatten(1) == wall.to(x.dtype)).sum(1).float()
        return torch.stack([torch.full_like(right, 29.5), right], 1)

    x, y = torch.full((12, 1, 5, 6), 0.5), torch.zeros(12, dtype=torch.int64)
    found = sparse_rs(model, x, y, Lp("l0", 30.0), random=keyed(0, IDS), queries=2000)
    assert bool((found.flatten(1) == wall.to(x.dtype)).all())


def test_entries_and_walls_begin_uniform() -> None:
    """Of 60 first looks at three of 30 entries: the middle is 14.5, half are the upper wall.

    Five standard errors of 180 draws: 3.2 places, and 0.19 of a half.
    """
    ids = torch.arange(60)
    x, y = torch.full((60, 30), 0.5), torch.zeros(60, dtype=torch.int64)
    seen: list[torch.Tensor] = []

    def model(z: torch.Tensor) -> torch.Tensor:
        seen.append(z.clone())
        return torch.tensor([1.0, 0.0]).expand(len(z), 2)

    sparse_rs(model, x, y, Lp("l0", 3.0), random=keyed(0, ids), queries=2)
    changed = seen[1] != x
    assert bool((changed.sum(1) == 3).all())
    assert abs(float(changed.nonzero()[:, 1].double().mean()) - 14.5) < 3.2
    assert abs(float(seen[1][changed].double().mean()) - 0.5) < 0.19
