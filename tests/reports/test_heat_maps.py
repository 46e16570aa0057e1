"""Heat maps: what stands where in the picture, and what is refused."""

from io import BytesIO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trustml.errors import BadInput, NotApplicable
from trustml.reports.heat_maps import heat_maps


def picture(png: bytes) -> NDArray[np.float64]:
    """Return the image (H, W, 3) in [0, 1]."""
    from matplotlib.image import imread

    return np.asarray(imread(BytesIO(png), format="png"), dtype=np.float64)[..., :3]


def coloured(image: NDArray[np.float64], channel: int) -> NDArray[np.intp]:
    """Return the places (N, 2) where one channel outshines the others by far."""
    others = [other for other in range(3) if other != channel]
    return np.argwhere(image[..., channel] - image[..., others].max(-1) > 0.15)


def test_red_speaks_for_and_blue_against() -> None:
    """The upper left of the second column's map is positive, the lower right negative."""
    x = torch.zeros(1, 1, 4, 4)
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 0, 0], maps[0, 0, 3, 3] = 2.0, -2.0
    image = picture(heat_maps(x, {"nothing": maps * 0, "some": maps}, ("why 3?",), "three"))
    red, blue = coloured(image, 0), coloured(image, 2)
    assert len(red) > 100
    assert len(blue) > 100
    assert red[:, 0].max() < blue[:, 0].min()
    assert red[:, 1].max() < blue[:, 1].min()
    assert red[:, 1].min() > image.shape[1] * 0.6, "the map of zeros, in the middle, is not white"


def test_every_map_has_its_own_scale() -> None:
    """A map a million times smaller looks the same: one column is the other, moved aside."""
    x, maps = torch.rand(2, 3, 6, 6), torch.randn(2, 3, 6, 6)
    image = picture(heat_maps(x, {"a": maps, "b": 1e-6 * maps}, ("", ""), ""))
    red = coloured(image, 0)
    left = red[(red[:, 1] > image.shape[1] * 0.36) & (red[:, 1] < image.shape[1] * 0.66)]
    right = red[red[:, 1] > image.shape[1] * 0.68]
    assert len(left) > 100
    assert abs(len(left) - len(right)) < 0.1 * len(left)


def test_what_cannot_be_drawn() -> None:
    x = torch.rand(2, 1, 4, 4)
    with pytest.raises(NotApplicable, match="no pictures"):
        heat_maps(torch.rand(2, 5), {"a": torch.rand(2, 5)}, ("", ""), "")
    with pytest.raises(BadInput, match="'b' is not"):
        heat_maps(x, {"a": x, "b": x[:1]}, ("", ""), "")
    with pytest.raises(BadInput, match="1 labels"):
        heat_maps(x, {"a": x}, ("",), "")
    with pytest.raises(BadInput, match="0 methods"):
        heat_maps(x, {}, ("", ""), "")
