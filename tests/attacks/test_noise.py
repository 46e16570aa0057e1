"""Noise: uniform in the ball, first win kept."""

import pytest
import torch
from scipy import stats
from torch import Tensor

from trustml.attacks.noise import noise
from trustml.contracts import Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp


def never(x: Tensor) -> Tensor:
    """Answer class 0 to anything."""
    return torch.tensor([1.0, 0.0]).expand(len(x), 2)


@pytest.mark.parametrize(("norm", "power"), [("linf", 1.0), ("l2", 6.0), ("l1", 6.0)])
def test_noise_is_uniform_in_the_volume(norm: Norm, power: float) -> None:
    """In six dimensions (r/ε)^6 of the volume is inside radius r; one entry of Linf: r/ε."""
    x, y = torch.full((2000, 6), 0.5), torch.zeros(2000, dtype=torch.long)
    moved = noise(never, x, y, Lp(norm, 0.3), random=keyed(0, torch.arange(2000)), draws=1)  # type: ignore[arg-type]
    size = (moved - x)[:, 0].abs() if norm == "linf" else distance(moved, x, norm)
    assert stats.kstest((size.double() / 0.3).numpy() ** power, "uniform").pvalue > 1e-3


def test_l0_noise_changes_that_many_entries() -> None:
    """Three of six entries are drawn anew."""
    x, y = torch.full((50, 6), 0.5), torch.zeros(50, dtype=torch.long)
    moved = noise(never, x, y, Lp("l0", 3.0), random=keyed(0, torch.arange(50)), draws=1)  # type: ignore[arg-type]
    assert bool((distance(moved, x, "l0") == 3).all())


def test_the_first_winning_draw_is_kept() -> None:
    """Class 1 where the first entry rose above 0.7: with many draws every sample ends there."""

    def above(x: Tensor) -> Tensor:
        return torch.stack([torch.full_like(x[:, 0], 0.7), x[:, 0]], 1)

    x, y = torch.full((30, 2), 0.5), torch.zeros(30, dtype=torch.long)
    random = keyed(0, torch.arange(30))
    once = noise(above, x, y, Lp("linf", 0.3), random=random, draws=1)  # type: ignore[arg-type]
    often = noise(above, x, y, Lp("linf", 0.3), random=random, draws=60)  # type: ignore[arg-type]
    assert bool((often[:, 0] > 0.7).all())
    won = once[:, 0] > 0.7
    assert 0 < int(won.sum()) < 30
    assert torch.equal(often[won], once[won])


def test_no_draws_are_refused() -> None:
    """Nothing would be tried."""
    with pytest.raises(BadOption, match="draws=0"):
        noise(never, torch.zeros(1, 2), torch.zeros(1).long(), Lp("linf", 0.1),
              random=keyed(0, torch.arange(1)), draws=0)  # type: ignore[arg-type]  # fmt: skip
