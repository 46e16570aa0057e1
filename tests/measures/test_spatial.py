"""Turns and shifts against ones that are exact."""

import pytest
import torch

from trustml.measures.spatial import TOLERANCE, distance, grid, project, warped

BOX = (0.0, 1.0)
FULL = torch.ones(2).double()


def test_a_shift_by_whole_pixels_is_a_roll() -> None:
    """A tenth of 20 is 2 pixels: down 2, left 1, what comes in is black."""
    x = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    x[..., -2:, :], x[..., 0] = 0, 0
    moved = warped(x, FULL, (0.0, 1.0, -0.5), BOX)
    assert torch.allclose(moved, x.roll((2, -1), (2, 3)), atol=1e-7)


def test_three_turns_of_30_degrees_are_one_of_90_on_a_smooth_image() -> None:
    """A wide bump off the middle: bilinear sampling is nearly exact, and a quarter turn is."""
    place = torch.arange(41) - 20.0
    bump = torch.exp(-((place[:, None] - 6) ** 2 + (place[None] + 3) ** 2) / 60)[None, None]
    turned = bump
    for _ in range(3):
        turned = warped(turned, FULL[:1], (1.0, 0.0, 0.0), BOX)
    quarter = [torch.rot90(bump, k, (2, 3)) for k in (1, 3)]
    assert min(float((turned - each).abs().max()) for each in quarter) < 0.04
    assert float((turned - bump).abs().max()) > 0.3


def test_the_grid_is_that_of_the_paper() -> None:
    """31 angles by 5 by 5 shifts; none at all is the mildest."""
    assert len(grid()) == len(set(grid())) == 31 * 5 * 5
    assert grid()[0] == (0.0, 0.0, 0.0)


def test_only_members_are_allowed() -> None:
    """A member's share is told; one entry beyond the tolerance, or an angle between two, is not."""
    x = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(1))
    half = FULL / 2
    each = half.view(2, 1, 1, 1)
    moved = warped(x, half, (-0.2, 0.5, 0.0), BOX)
    assert distance(moved, x, each, BOX).tolist() == pytest.approx([0.25, 0.25])
    moved[0, 0, 5, 5] = (moved[0, 0, 5, 5] + 0.5) % 1
    between = warped(x, half, (0.033, 0.0, 0.0), BOX)
    assert distance(moved, x, each, BOX).tolist()[0] == float("inf")
    assert distance(between, x, each, BOX).tolist() == [float("inf")] * 2
    near = warped(x, half, (0.2, 0.0, 1.0), BOX) + TOLERANCE / 2
    assert distance(near, x, each, BOX).isfinite().all()


def test_a_projection_is_the_nearest_member() -> None:
    """A member with a little noise comes back as the member."""
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(2, 1, 12, 12, generator=generator)
    member = warped(x, FULL, (0.6, -0.5, 1.0), BOX)
    noisy = member + 0.01 * torch.rand(member.shape, generator=generator)
    assert torch.equal(project(noisy, x, FULL.view(2, 1, 1, 1), BOX), member)
