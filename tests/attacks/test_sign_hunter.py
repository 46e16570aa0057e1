"""SignHunter against the closed forms of linear models."""

import pytest
import torch

from tests.attacks.two_classes import IDS, fooled, linear, spent
from trustml.attacks.sign_hunter import sign_hunter
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp


@pytest.mark.parametrize("aimed", [False, True], ids=["away", "aimed"])
def test_one_pass_is_a_linear_models_optimum(aimed: bool) -> None:
    """After single entries were turned, each has the sign of w: the optimum in Linf.

    30 entries take 1 look at the start, 1 at all turned, and 2 + 4 + 8 + 15 + 30 at blocks.
    """
    assert fooled("sign_hunter", "linf", 1.001, queries=62, aimed=aimed) == 1.0
    assert fooled("sign_hunter", "linf", 0.999, queries=62, aimed=aimed) == 0.0


def test_l2_gives_all_entries_the_same() -> None:
    """Its vertex is off the optimum by ‖w‖₁ / (√D ‖w‖₂), of normal weights about 0.8."""
    assert fooled("sign_hunter", "l2", 1.5, queries=100) == 1.0
    assert fooled("sign_hunter", "l2", 1.05, queries=100) < 0.5


def test_blocks_are_halves_quarters_and_so_on() -> None:
    """Against a model that never errs no turn but the first is kept; each look shows its block."""
    seen: list[torch.Tensor] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x[0])
        return torch.tensor([1.0, 0.0]).repeat(len(x), 1)

    zero = torch.zeros(1, dtype=torch.int64)
    x = torch.full((1, 5), 0.5)
    sign_hunter(model, x, zero, Lp("linf", 0.5), random=keyed(0, zero), queries=14)
    looks = ["".join(str(int(entry < 0.5)) for entry in look) for look in seen[1:]]
    assert looks == [
        "00000", "11111", "11100", "00011", "11000", "00110", "00001",
        "10000", "01000", "00100", "00010", "00001", "11111",
    ]  # fmt: skip


@pytest.mark.parametrize("queries", [1, 2, 50])
def test_every_query_is_spent_and_none_more(queries: int) -> None:
    assert bool((spent("sign_hunter", "linf", queries=queries) == queries).all())


def test_bad_options_are_refused() -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        sign_hunter(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), queries=0)
