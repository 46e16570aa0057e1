"""SparseFool: out of a ball, where the fewest and the shortest moves are known."""

import pytest
import torch
from torch import Tensor

from trustml.attacks.sparse_fool import sparse_fool
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

COUNT, ENTRIES = 16, 12
IDS = torch.arange(COUNT)
X = 0.4 * torch.rand(COUNT, ENTRIES, generator=torch.Generator().manual_seed(0)).double() - 0.2
Y = torch.zeros(COUNT, dtype=torch.long)
INFINITE = float("inf")


def sphere(z: Tensor) -> Tensor:
    """Class 1 outside of the unit sphere: a border that curves away from whoever comes near."""
    lead = z.square().sum(1) - 1
    return torch.stack([torch.zeros_like(lead), lead], 1)


def test_out_of_a_ball_one_entry_leads() -> None:
    """A convex function is greatest at the corners of an L1 ball: one entry goes to √(1 − rest)."""
    others = X.square().sum(1, keepdim=True) - X.square()
    least = ((1 - others).sqrt() - X.abs()).amin(1)
    found = sparse_fool(sphere, X, Y, Lp("l1", INFINITE, -2, 2), random=keyed(0, IDS))
    far = distance(found, X, "l1")
    assert bool((sphere(found).argmax(1) == 1).all())
    assert bool((far >= least * (1 - 1e-6)).all())
    assert bool((far <= least * 1.02).all())
    found = sparse_fool(sphere, X, Y, Lp("l0", INFINITE, -2, 2), random=keyed(0, IDS))
    assert bool((sphere(found).argmax(1) == 1).all())
    assert distance(found, X, "l0").tolist() == [1.0] * COUNT


def test_in_a_narrow_box_the_fewest_entries_are_those_that_give_most() -> None:
    """An entry at its wall gives 0.4² less its own square, whatever the others do: count them."""
    gains = (0.4**2 - X.square()).sort(dim=1, descending=True).values.cumsum(1)
    least = ((gains + X.square().sum(1, keepdim=True)) <= 1).sum(1) + 1
    found = sparse_fool(sphere, X, Y, Lp("l0", INFINITE, -0.4, 0.4), random=keyed(0, IDS))
    far = distance(found, X, "l0")
    assert bool((sphere(found).argmax(1) == 1).all())
    assert bool((far >= least).all())
    assert bool((far <= least + 1).all())
    assert float((far == least).double().mean()) >= 0.75


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"stretch": 0.5}, {"stretch": INFINITE}, {"overshoot": -0.1}]
)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(BadOption, match="sparse_fool"):
        sparse_fool(sphere, X, Y, Lp("l1", 1.0, -2, 2), random=keyed(0, IDS), **options)  # type: ignore[arg-type]
