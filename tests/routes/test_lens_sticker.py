"""Where the patch is stuck and what is on it, where one corner of the image decides."""

import pytest
import torch

from tests.routes.models import Weighing, mail, numbers
from trustml.errors import BadOption
from trustml.routes.lens_sticker import lens_sticker


def test_the_patch_finds_the_corner_that_counts() -> None:
    """Black pictures; class 1 takes a sum of 3.5 in the upper right 2x2: a white patch there."""
    split, weights = mail(value=0.0), torch.zeros(1, 6, 6)
    weights[..., :2, 4:] = 1.0
    model = Weighing(weights, 3.5)
    change = lens_sticker(model, split, random=numbers(split), size=0.34, slip=0)
    moved = change(split.x, split.y, numbers(split))
    assert torch.equal(moved, weights.expand_as(moved))


def test_it_slips_no_farther_than_it_may() -> None:
    """A patch of 2 pixels that slips by 1 changes one 2x2 square, the same on all mail."""
    split = mail()
    change = lens_sticker(Weighing(torch.ones(1, 6, 6), 19), split, random=numbers(split), slip=1)
    moved = change(split.x, split.y, numbers(split))
    rows, columns = (moved != split.x)[0, 0].nonzero().unbind(1)
    assert rows.max() - rows.min() <= 1
    assert columns.max() - columns.min() <= 1
    assert torch.equal(moved, moved[:1].expand_as(moved))


def test_a_patch_larger_than_the_glass_is_refused() -> None:
    split = mail()
    with pytest.raises(BadOption, match="does not fit into an image of 6x6"):
        lens_sticker(Weighing(torch.ones(1, 6, 6), 19), split, random=numbers(split), size=1.0)
