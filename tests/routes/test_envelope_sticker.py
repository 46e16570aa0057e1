"""Where a sticker goes, what it covers, and that it is made for what hand and scanner do."""

import pytest
import torch

from tests.routes.models import Weighing, mail, numbers
from trustml.errors import BadOption
from trustml.routes.envelope_sticker import _beside, envelope_sticker


def test_it_goes_where_least_of_the_digit_is() -> None:
    """All is inked but for the lower left 3x3, so that it is there."""
    x = torch.ones(2, 1, 9, 9)
    x[..., 6:, :3] = 0
    where = _beside(x, 3, 0.0)
    assert torch.equal(where, 1 - x)


def test_only_what_is_near_the_window_changes() -> None:
    """A window of 3 pixels, turned by 10 degrees, a tenth larger, shifted by 1: 2 more each way."""
    x = torch.ones(8, 1, 15, 15)
    x[..., 3:6, 9:12] = 0
    split = mail(8, 15)
    model = Weighing(torch.ones(1, 15, 15), 400.0)
    change = envelope_sticker(model, split, random=numbers(split), size=0.2, steps=2)
    moved = change(x, split.y, numbers(split))
    rows, columns = (moved != x).any(0)[0].nonzero().unbind(1)
    assert rows.min() >= 1
    assert rows.max() <= 7
    assert columns.min() >= 7
    assert columns.max() <= 13


def test_it_is_drawn_to_mislead() -> None:
    """Class 1 takes a bright window; a gray sticker would not do, one that follows it does."""
    split = mail(8, 9, value=0.0)
    model = Weighing(torch.ones(1, 9, 9), 6.0)
    change = envelope_sticker(model, split, random=numbers(split), size=0.34)
    moved = change(split.x, split.y, numbers(split))
    assert float((model(moved).argmax(1) == 1).double().mean()) > 0.8


def test_a_sticker_over_everything_is_refused() -> None:
    split = mail()
    with pytest.raises(BadOption, match="cover an image of 6x6"):
        envelope_sticker(Weighing(torch.ones(1, 6, 6), 1), split, random=numbers(split), size=1)
