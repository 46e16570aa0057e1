"""The picture of originals, adversarials and differences."""

from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib import image

from trustml.errors import NotApplicable
from trustml.reports.sheet import sheet


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_is_a_picture(channels: int) -> None:
    """It reads as a PNG, wider with more columns, and is not one colour."""
    first = torch.rand(4, channels, 8, 8)
    drawn = [
        image.imread(BytesIO(sheet((first[:n], 1 - first[:n]), ("a",) * n, ("b",) * n, "title")))
        for n in (2, 4)
    ]
    assert drawn[0].shape[1] < drawn[1].shape[1]
    assert all(np.std(picture) > 0.01 for picture in drawn)


def test_the_sheet_shows_the_difference() -> None:
    """The same originals with another adversarial make another picture; no change is fine."""
    x = torch.rand(1, 1, 8, 8)
    pictures = [sheet((x, other), ("a",), ("b",), "") for other in (x, x.clamp(0.2, 0.8), x)]
    assert pictures[0] == pictures[2] != pictures[1]


@pytest.mark.parametrize("shape", [(2, 5), (2, 2, 8, 8), (2, 8, 8)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    with pytest.raises(NotApplicable, match="no pictures to draw"):
        sheet((x, x), ("a",) * 2, ("b",) * 2, "")
