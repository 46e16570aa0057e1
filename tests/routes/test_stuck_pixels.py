"""Which pixels are stuck, where a weighed sum tells which ones matter."""

import pytest
import torch

from tests.routes.models import Weighing, mail, numbers
from trustml.data.moons import moons
from trustml.errors import BadOption, NotApplicable
from trustml.routes.stuck_pixels import stuck_pixels

WEIGHTS = torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_the_heaviest_pixels_are_stuck_the_right_way() -> None:
    """From gray each pixel can add |w| / 2: the five heaviest, white where w > 0, else black."""
    split = mail()
    model = Weighing(WEIGHTS, 0.5 * float(WEIGHTS.sum()) + 1.0)
    change = stuck_pixels(model, split, random=numbers(split), share=5 / 36)
    moved = change(split.x, split.y, numbers(split))
    changed = (moved != split.x)[0].flatten()
    assert set(changed.nonzero().flatten().tolist()) == set(
        WEIGHTS.abs().flatten().topk(5).indices.tolist()
    )
    white = moved[0].flatten()[changed] == 1
    assert torch.equal(white, WEIGHTS.flatten()[changed] > 0)


def test_the_column_is_the_one_that_matters() -> None:
    """The model weighs one column alone, so it is that one, at white."""
    split, weights = mail(), torch.zeros(1, 6, 6)
    weights[..., 4] = 1.0
    model = Weighing(weights, 3.5)
    change = stuck_pixels(model, split, random=numbers(split), shape="column")
    moved = change(split.x, split.y, numbers(split))
    expected = split.x.clone()
    expected[..., 4] = 1.0
    assert torch.equal(moved, expected)


def test_vectors_have_no_pixels() -> None:
    data = moons(folder=None)
    with pytest.raises(NotApplicable, match=r"stuck_pixels needs images.*scanner_pattern"):
        stuck_pixels(Weighing(torch.ones(2), 0), data.train, random=numbers(data.train))


def test_a_share_of_nothing_is_refused() -> None:
    split = mail()
    with pytest.raises(BadOption, match="share=0"):
        stuck_pixels(Weighing(WEIGHTS, 0), split, random=numbers(split), share=0)
