"""Ever fewer entries, where it is known how many it takes."""

import pytest
import torch
from torch import Tensor

from trustml.attacks.carlini_wagner import carlini_wagner
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

COUNT, ENTRIES = 8, 40
IDS = torch.arange(COUNT)
X = 0.2 * torch.rand(COUNT, ENTRIES, generator=torch.Generator().manual_seed(0)).double()
Y = torch.zeros(COUNT, dtype=torch.long)
INFINITE = float("inf")


@pytest.mark.parametrize("height", [4.0, 8.0, 18.0])
def test_as_many_entries_are_left_as_are_needed(height: float) -> None:
    """Entry i at the wall of 1 adds w (1 - x²) to Σ w z², whatever others do: count the largest."""
    weight = torch.linspace(0.5, 1.5, ENTRIES).double()

    def model(z: Tensor) -> Tensor:
        lead = (weight * z.square()).sum(1) - height
        return torch.stack([torch.zeros_like(lead), lead], 1)

    gains = (weight * (1 - X.square())).sort(dim=1, descending=True).values.cumsum(1)
    least = (gains + (weight * X.square()).sum(1, keepdim=True) <= height).sum(1) + 1
    found = carlini_wagner(
        model, X, Y, Lp("l0", INFINITE), random=keyed(0, IDS), steps=60, searches=4
    )
    far = distance(found, X, "l0")
    assert bool((model(found).argmax(1) == 1).all())
    assert bool((far >= least).all())
    assert bool((far <= least + 1).all())


def test_entries_that_say_nothing_are_let_alone() -> None:
    """Two of the three at their wall leave 0.2 to be had from the third, which has less by itself.

    The rest of forty is moved by nobody.
    """

    def model(z: Tensor) -> Tensor:
        lead = z[:, [3, 11, 30]].sum(1) - 2.2
        return torch.stack([torch.zeros_like(lead), lead], 1)

    found = carlini_wagner(model, X, Y, Lp("l0", INFINITE), random=keyed(0, IDS))
    assert bool((model(found).argmax(1) == 1).all())
    assert (found != X).sum(0).nonzero()[:, 0].tolist() == [3, 11, 30]
    assert distance(found, X, "l0").tolist() == [3.0] * COUNT
