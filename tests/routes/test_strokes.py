"""How many pixels a stroke takes, of which colour, and that better ones are kept."""

import pytest
import torch

from tests.routes.models import Weighing, mail, numbers
from trustml.errors import BadOption
from trustml.routes.strokes import strokes


def test_a_stroke_is_a_few_pixels_of_ink() -> None:
    """Dark edges are paper, so ink is white; half of 12 pixels are 6, less at the edge."""
    split = mail(30, 12, value=0.0)
    model = Weighing(torch.ones(1, 12, 12), 100.0)
    moved = strokes(model, split, random=numbers(split), length=0.5)(
        split.x, split.y, numbers(split)
    )
    changed = moved != split.x
    assert bool((moved[changed] == 1).all())
    count = changed.flatten(1).sum(1)
    assert int(count.min()) >= 1
    assert int(count.max()) == 6


def test_more_tries_do_no_worse() -> None:
    """The model weighs one pixel: 200 tries find it more often than one."""
    split = mail(40, 8, value=0.0)
    weights = torch.zeros(1, 8, 8)
    weights[..., 3, 4] = 1.0
    model = Weighing(weights, 0.5)
    won = [
        float(
            model(
                strokes(model, split, random=numbers(split), queries=queries)(
                    split.x, split.y, numbers(split)
                )
            ).argmax(1).double().mean()
        )
        for queries in (1, 200)
    ]  # fmt: skip
    assert won[0] < 0.3
    assert won[1] > 0.9


def test_on_dark_paper_ink_is_bright_and_the_other_way_round() -> None:
    split = mail(5, 8, value=1.0)
    moved = strokes(Weighing(torch.ones(1, 8, 8), 1.0), split, random=numbers(split))(
        split.x, split.y, numbers(split)
    )
    assert bool((moved[moved != split.x] == 0).all())


def test_no_stroke_is_refused() -> None:
    split = mail()
    with pytest.raises(BadOption, match="count=0"):
        strokes(Weighing(torch.ones(1, 6, 6), 1), split, random=numbers(split), count=0)
