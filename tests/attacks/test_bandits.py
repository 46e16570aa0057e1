"""Bandits against the closed forms of linear models."""

import pytest
import torch

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.bandits import bandits
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_a_linear_model_is_solved(norm: str, aimed: bool) -> None:
    """With tiles of one entry the learnt gradient turns to w."""
    options = {"queries": 3000, "tile": 1, "aimed": aimed}
    assert fooled("bandits", norm, 1.15, **options) == 1.0
    assert fooled("bandits", norm, 0.99, **options) == 0.0


def test_a_tile_moves_as_one() -> None:
    """Tiles of 3 in 5 rows and 6 columns: what is proposed has one sign in each of 2 × 2 tiles."""
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        return torch.stack([torch.ones(len(x)), x.flatten(1).mean(1) * 0.1], 1)

    x = torch.full((12, 1, 5, 6), 0.5)
    y = torch.zeros(12, dtype=torch.int64)
    bandits(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), queries=31, tile=3)
    move = (seen[-1] - x)[:, 0]
    assert bool((move != 0).all())
    for rows, columns in ((slice(0, 3), slice(0, 3)), (slice(3, 5), slice(3, 6))):
        tile = move[:, rows, columns].flatten(1)
        assert torch.equal(tile.sign(), tile[:, :1].sign().expand_as(tile))


@pytest.mark.parametrize("queries", [1, 3, 4, 5, 50])
def test_no_more_is_asked_than_allowed(queries: int) -> None:
    """One query for the input, then two looks and a step."""
    assert bool((spent("bandits", "l2", queries=queries) == 1 + (queries - 1) // 3 * 3).all())


@pytest.mark.parametrize(
    "options", [{"queries": 0}, {"tile": 0}, {"stride": 0.0}, {"exploration": -1.0}], ids=str
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        bandits(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options)
