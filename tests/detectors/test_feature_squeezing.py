"""Feature squeezing: its two squeezers by hand and against scipy, its distance by definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter as scipy_median
from torch import nn

from trustml.contracts import Outputs
from trustml.detectors.feature_squeezing import feature_squeezing, median_filter, rounded
from trustml.detectors.temperature import temperature
from trustml.errors import BadOption, NotApplicable


class Picture(nn.Module):
    """Images (B, 1, 6, 5) → three logits."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(30, 3)

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return 4 * self.head(x.flatten(1))


@pytest.fixture
def picture() -> Picture:
    return Picture().eval()


def read(model: nn.Module, x: torch.Tensor) -> Outputs:
    with torch.no_grad():
        return Outputs(model(x), model.features(x), x, model(x).argmax(1))


def test_rounding_by_hand() -> None:
    """One bit: 0 and 1. Two bits: thirds. The same in a box from -2 to 4."""
    x = torch.tensor([0.0, 0.2, 0.49, 0.51, 1.0])
    assert rounded(x, 1, 0, 1).tolist() == [0, 0, 0, 1, 1]
    assert torch.allclose(rounded(x, 2, 0, 1), torch.tensor([0, 1 / 3, 1 / 3, 2 / 3, 1]))
    assert torch.allclose(rounded(6 * x - 2, 2, -2, 4), torch.tensor([-2.0, 0, 0, 2, 4]))


@pytest.mark.parametrize("window", [2, 3, 4, 9])
def test_median_against_scipy(window: int) -> None:
    """Scipy mirrors edges and takes the upper median too; 9 is wider than the picture."""
    x = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(1))
    expected = [
        [scipy_median(plane, size=window, mode="reflect") for plane in image] for image in x
    ]
    assert np.allclose(median_filter(x, window).numpy(), np.array(expected))


def test_the_greatest_distance_counts(picture) -> None:
    x = torch.rand(9, 1, 6, 5, generator=torch.Generator().manual_seed(1))
    outputs = read(picture, x)
    with torch.no_grad():
        before = picture(x).softmax(1)
        depth = (picture(x.round()).softmax(1) - before).abs().sum(1)
        smooth = (picture(median_filter(x, 2)).softmax(1) - before).abs().sum(1)
    both = feature_squeezing(picture, outputs, outputs)(outputs)
    assert torch.allclose(both.float(), torch.maximum(depth, smooth), atol=1e-6)
    alone = feature_squeezing(picture, outputs, outputs, window=0)(outputs)
    assert torch.allclose(alone.float(), depth, atol=1e-6)
    assert bool((depth != smooth).all())


def test_what_is_squeezed_already_does_not_move(picture) -> None:
    x = torch.rand(9, 1, 6, 5, generator=torch.Generator().manual_seed(1)).round()
    outputs = read(picture, x)
    score = feature_squeezing(picture, outputs, outputs, window=0)(outputs)
    assert float(score.max()) < 1e-6


def test_bad_input(picture, model, made) -> None:
    outputs = read(picture, torch.rand(9, 1, 6, 5))
    for options in ({"bits": 0, "window": 0}, {"bits": 17}, {"window": -1}):
        with pytest.raises(BadOption, match="feature_squeezing"):
            feature_squeezing(picture, outputs, outputs, **options)
    vectors = made()
    with pytest.raises(NotApplicable, match="set window=0"):
        feature_squeezing(model, vectors, vectors)
    warm = temperature(picture, outputs, outputs, value=2.0)(outputs)
    with pytest.raises(NotApplicable, match="front end"):
        feature_squeezing(picture, warm, warm)
    strange = replace(outputs, x=outputs.x.flip(0))
    with pytest.raises(NotApplicable, match="own answers"):
        feature_squeezing(picture, strange, strange)
