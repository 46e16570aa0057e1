"""Rectangles against a search over all of them."""

import itertools

import pytest
import torch

from trustml.measures.patch import best_rectangle, distance, pixels, project

BOX = (0.0, 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_rectangle_is_the_best_of_all(seed: int) -> None:
    gain = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(seed)).double()
    most = torch.tensor([4, 7, 30])
    found = best_rectangle(gain, most)
    for one, allowed, where in zip(gain, most.tolist(), found, strict=True):
        sums = [
            float(one[t:b, a:z].sum())
            for t, b in itertools.combinations(range(6), 2)
            for a, z in itertools.combinations(range(7), 2)
            if (b - t) * (z - a) <= allowed
        ]
        assert int(where.sum()) <= allowed
        assert float(one[where].sum()) == pytest.approx(max(sums))


def test_the_area_is_that_of_the_smallest_rectangle() -> None:
    """Two changed corners of a 3 × 2 block, in different channels: 6 pixels of 20."""
    x = torch.zeros(2, 3, 4, 5)
    moved = x.clone()
    moved[0, 0, 1, 1], moved[0, 2, 3, 2] = 1, 1
    assert distance(moved, x, torch.zeros(()), BOX).tolist() == [0.3, 0.0]


def test_a_projection_keeps_what_brings_it_nearest() -> None:
    """A 2 × 2 block of large changes among small ones: exactly it is kept of 4 pixels."""
    x = torch.full((1, 1, 6, 6), 0.5)
    wish = x + 0.01
    wish[0, 0, 2:4, 3:5] = 1.7
    point = project(wish, x, torch.tensor(4 / 36).double(), BOX)
    assert torch.equal((point != x)[0, 0].nonzero(), torch.tensor([[2, 3], [2, 4], [3, 3], [3, 4]]))
    assert float(point.max()) == 1.0


def test_a_share_of_pixels_is_counted_as_written() -> None:
    """0.29 · 100 is 28.999… in binary, and 29 pixels all the same; more than all is all."""
    x = torch.zeros(1, 1, 10, 10)
    counts = [
        int(pixels(torch.tensor(share, dtype=torch.float64), x))
        for share in (0.29, 0.295, 0.0, 1.0)
    ]
    assert counts == [29, 29, 0, 100]
