"""Windows and dipoles of inputs of any shape."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trustml.attacks._windows import Plane, dipole, plane_of


@pytest.mark.parametrize(
    ("shape", "plane"),
    [
        ((3, 8, 6), Plane(3, 8, 6)),
        ((8, 6), Plane(1, 8, 6)),
        ((5,), Plane(1, 1, 5)),
        ((2, 3, 4, 5), Plane(1, 1, 120)),
        ((), Plane(1, 1, 1)),
    ],
    ids=str,
)
def test_shapes_become_planes(shape: tuple[int, ...], plane: Plane) -> None:
    assert plane_of(shape) == plane


@given(
    st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.floats(0.0, 80.0),
    st.tuples(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True)),
)  # fmt: skip
def test_a_window_is_a_rectangle_inside_the_plane(
    channels: int, rows: int, columns: int, area: float, place: tuple[float, float]
) -> None:
    """The same rectangle in each channel, no entry twice, in the order of the channels."""
    plane = Plane(channels, rows, columns)
    window = plane.window(area)
    entries = plane.entries(window, torch.tensor([place], dtype=torch.float32))[0]
    mask = torch.zeros(channels, rows, columns, dtype=torch.int64)
    mask.view(-1).index_add_(0, entries, torch.ones_like(entries))
    assert int(mask.max()) == 1
    assert int(mask.sum()) == len(entries) == channels * window[0] * window[1]
    assert bool((mask == mask[:1]).all())
    assert bool((mask[0].any(1).sum() == window[0]) & (mask[0].any(0).sum() == window[1]))
    assert torch.equal(entries, entries.sort().values)


def test_every_place_can_be_drawn() -> None:
    """Corners 0 and rows − height included, and equally often: 5 · 4 places of a 3 × 3 window."""
    plane = Plane(1, 7, 6)
    place = torch.rand(40_000, 2, generator=torch.Generator().manual_seed(0))
    corner = plane.entries((3, 3), place)[:, 0]
    count = corner.bincount(minlength=42).view(7, 6)
    assert int((count > 0).sum()) == 20
    assert bool((count[:5, :4] > 1700).all() & (count[:5, :4] < 2300).all())


def test_the_hill_is_that_of_the_paper() -> None:
    """Worked by hand for height 4, width 3: rings of 1 + 1/4 in the middle, then 1/4 further out.

    The upper half, rows 0 and 1, is a hill with its top in row 1, the lower half its valley.
    """
    hill = torch.tensor([[0.25, 0.25, 0.25], [0.25, 1.25, 0.25]])
    hill = hill / hill.norm()
    expected = torch.cat([hill, -hill]) / 2**0.5
    assert torch.allclose(dipole((4, 3), across=False), expected)
    assert torch.allclose(dipole((3, 4), across=True), expected.T)


def test_the_hill_of_l1_is_steeper() -> None:
    """By hand for height 4, width 3: 1 + 1/16 in the middle, 1/16 around it; sizes add up to 1."""
    hill = torch.tensor([[1.0, 1.0, 1.0], [1.0, 17.0, 1.0]]) / 22
    expected = torch.cat([hill, -hill]) / 2
    assert torch.allclose(dipole((4, 3), across=False, order=1), expected)


@pytest.mark.parametrize("window", [(1, 1), (1, 4), (5, 1), (3, 3), (2, 7), (6, 6)], ids=str)
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_a_dipole_has_norm_one_and_two_signs(
    window: tuple[int, int], across: bool, order: int
) -> None:
    shape = dipole(window, across, order)
    assert tuple(shape.shape) == window
    assert torch.isclose(shape.norm(order), torch.tensor(1.0))
    if window != (1, 1):
        assert bool((shape > 0).any() & (shape < 0).any())
