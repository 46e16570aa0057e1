"""The worst lamp, where the model reads nothing but brightness."""

import pytest
import torch

from tests.routes.models import Weighing, mail, numbers
from trustml.errors import BadOption
from trustml.routes.gain_drift import gain_drift

MEAN = torch.full((1, 6, 6), 1 / 36)


def test_the_brightest_lamp_wins_and_does_what_it_says() -> None:
    """0.4 · 1.5 + 0.25 = 0.85 is the brightest of the grid, and just above the border."""
    split = mail(value=0.4)
    model = Weighing(MEAN, 0.84)
    change = gain_drift(model, split, random=numbers(split))
    moved = change(split.x, split.y, numbers(split))
    assert torch.allclose(moved, torch.full_like(moved, 0.85))
    assert bool((model(moved).argmax(1) == 1).all())


def test_of_equal_harm_the_strongest_is_taken() -> None:
    """A model that nothing moves: the tampering is still one, the corner of the grid."""
    split = mail(value=0.4)
    moved = gain_drift(Weighing(MEAN, 9.0), split, random=numbers(split))(
        split.x, split.y, numbers(split)
    )
    assert float((moved - split.x).abs().max()) > 0.2


def test_no_drift_at_all_is_refused() -> None:
    split = mail()
    with pytest.raises(BadOption, match="gain=0 and offset=0"):
        gain_drift(Weighing(MEAN, 1), split, random=numbers(split), gain=0, offset=0)
