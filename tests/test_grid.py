"""The 8-bit grid: against whole numbers, and against picture files."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image
from torch import Tensor

from trustml.contracts import Norm
from trustml.errors import BadInput
from trustml.geometry import project
from trustml.grid import STEPS, check_on_grid, snapped, within
from trustml.threats import Lp

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
USUAL = {"linf": 8 / 255, "l2": 0.5, "l1": 3.0, "l0": 5.0}


def _pixels(seed: int, count: int = 6, shape: tuple[int, ...] = (3, 5, 4)) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *shape), generator=draws).float() / 255


def _reopened(image: Tensor) -> Tensor:
    """Return an image (3, H, W) as a PNG file gives it back."""
    shades = (image.numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(shades).save(file, format="PNG")
    back = np.asarray(Image.open(io.BytesIO(file.getvalue()))).transpose(2, 0, 1)
    return torch.from_numpy(back.copy()).float().div(255)


@settings(max_examples=30, deadline=None)
@given(some.integers(0, 10_000), some.sampled_from(NORMS), some.floats(0.2, 3), some.booleans())
def test_snapped_points_are_pictures_in_the_ball(
    seed: int, norm: Norm, share: float, sloped: bool
) -> None:
    """Whole steps, counted as whole numbers from the files; a PNG gives back the same bits."""
    x, threat = _pixels(seed), Lp(norm, share * USUAL[norm])
    wish = x + (2 if norm == "l0" else 0.3) * torch.randn(x.shape)
    candidate = threat.project(wish, x)
    slope = torch.randn(x.shape) if sloped else None
    found = snapped(candidate, x, threat, slope)
    assert within(found, x, threat).all()
    for one in found:
        assert torch.equal(_reopened(one), one)
    move = ((found * 255).round() - (x * 255).round()).flatten(1).double()
    far = {
        "linf": move.abs().amax(1), "l2": move.norm(dim=1), "l1": move.abs().sum(1),
        "l0": (move != 0).sum(1) * 255.0,
    }[norm]  # fmt: skip
    assert (far <= 255 * share * USUAL[norm] * (1 + 1e-9)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_of_the_grid_stays(norm: Norm) -> None:
    """Each entry keeps its bits; x itself too."""
    x = _pixels(1)
    threat = Lp(norm, USUAL[norm])
    moved = snapped(threat.project(x + 0.1 * torch.randn(x.shape), x), x, threat)
    assert torch.equal(snapped(moved, x, threat), moved)
    assert torch.equal(snapped(x, x, threat), x)


def test_the_edge_of_the_ball_is_reached() -> None:
    """8/255 is 8 whole steps: no step is lost to the rounding of float32."""
    x = torch.arange(8, 248).float()[:, None] / 255
    threat = Lp("linf", 8 / 255)
    found = snapped(threat.project(x + 1, x), x, threat)
    assert torch.equal((found * 255).round(), (x * 255).round() + 8)
    assert within(found, x, threat).all()
    assert not within(((x * 255).round() + 9) / 255, x, threat).any()


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_entries_that_gain_most_go_farther(norm: Norm) -> None:
    """The result is one of the 2^6 roundings that lie in the ball, with the largest rests out."""
    x = torch.full((1, 6), 100 / 255)
    steps = torch.tensor([[2.9, -1.8, 0.7, 0.6, -0.55, 3.2]])
    candidate = x + steps / 255
    radius = float(steps.norm() if norm == "l2" else steps.abs().sum()) / 255
    found = ((snapped(candidate, x, Lp(norm, radius)) - x) * 255).round()[0]
    allowed = []
    for ways in product((0, 1), repeat=6):
        move = steps[0].trunc() + torch.tensor(ways) * steps[0].sign()
        size = float(move.norm() if norm == "l2" else move.abs().sum())
        if size <= 255 * radius * (1 + 1e-9):
            allowed.append(tuple(move.tolist()))
    assert tuple(found.tolist()) in allowed
    # The largest rest is 0.9, then 0.8: those go out in each norm.
    assert found[0] == 3
    assert found[1] == -2


def test_the_slope_says_which_step() -> None:
    """Up the slope where it leads outwards, inwards where it leads back."""
    x = torch.full((1, 4), 100 / 255)
    candidate = x + torch.tensor([[0.1, 0.9, -0.1, -0.9]]) / 255
    slope = torch.tensor([[1.0, -1.0, -1.0, 1.0]])
    found = ((snapped(candidate, x, Lp("linf", 2 / 255), slope) - x) * 255).round()
    assert found.tolist() == [[1, 0, -1, 0]]


@pytest.mark.parametrize("box", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_any_box_has_its_grid(box: tuple[float, float]) -> None:
    """What a loader makes of bytes by x · side + low in float32 lies on it."""
    low, high = box
    x = torch.arange(256).float()[None].div(255) * (high - low) + low
    threat = Lp("linf", 8 / 255 * (high - low), low, high)
    check_on_grid(x, threat, "the data")
    found = snapped(threat.project(x + high, x), x, threat)
    assert within(found, x, threat).all()
    steps = ((found - low) / (high - low) * STEPS).round()
    assert torch.equal(steps[0], (torch.arange(256.0) + 8).clamp(max=255))


def test_inputs_off_the_grid_are_named() -> None:
    x = torch.tensor([[0.0, 1.0], [0.0, 0.0625]])
    with pytest.raises(BadInput, match=r"input 1 of digits .* is 0.0625, 15.94 of 255 steps"):
        check_on_grid(x, Lp("linf", 0.1), "digits")


def test_what_is_off_the_grid_or_too_far_is_not_within() -> None:
    x, threat = _pixels(3), Lp("l2", 2 / 255)
    assert within(x, x, threat).all()
    assert not within(x + 0.4 / 255, x, threat).any()
    far = project(x + 1, x, "l0", torch.tensor(5.0), (0.0, 1.0))
    assert not within((far * 255).round() / 255, x, threat).all()
