"""How the Square attack begins and moves: vertices of the Linf ball, dipoles in L2 and L1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.attacks._windows import Plane, dipole
from trustml.contracts import Random


@dataclass(frozen=True, slots=True, eq=False)
class Hunt:
    """Samples that are still searched, flat (B, D): where each stands and how high its loss is.

    `lower` and `upper` are the walls that an entry may be moved to; `draws` (B, steps, numbers).
    """

    rows: Tensor
    x: Tensor
    y: Tensor
    lower: Tensor
    upper: Tensor
    epsilon: Tensor
    point: Tensor
    loss: Tensor
    draws: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """New values (B, n) for the flat entries `index`, and the old ones."""

    index: Tensor
    new: Tensor
    old: Tensor


def stripes(hunt: Hunt, plane: Plane, random: Random) -> Tensor:
    """Return vertices of the Linf ball (B, D): one sign for each column of each channel."""
    up = random.uniform((plane.channels, 1, plane.columns), "stripes") < 0.5
    up = up.expand(-1, -1, plane.rows, -1).flatten(1)
    return torch.where(up, hunt.upper, hunt.lower)


def to_a_wall(hunt: Hunt, plane: Plane, share: float, draw: Tensor) -> tuple[Patch, ...]:
    """Return a window whose channels go to one wall each, at random but not all where they are."""
    window = plane.window(share * plane.rows * plane.columns)
    index = plane.entries(window, draw[:, :2])
    old, lower, upper = (v.gather(1, index) for v in (hunt.point, hunt.lower, hunt.upper))
    up = (draw[:, 2:] < 0.5).repeat_interleave(window[0] * window[1], dim=1)
    same = (torch.where(up, upper, lower) == old).all(1, keepdim=True)
    return (Patch(index, torch.where(up ^ same, upper, lower), old),)


def tiles(hunt: Hunt, plane: Plane, random: Random, order: int = 2) -> Tensor:
    """Return points (B, D) on the sphere of that norm: five by five dipoles of random signs."""
    height, width = max(plane.rows // 5, 1), max(plane.columns // 5, 1)
    down, right = plane.rows // height, plane.columns // width
    sign = random.integers(2, (plane.channels, down, 1, right, 1), "sign").to(hunt.x.dtype) * 2 - 1
    lying = random.integers(2, (1, down, 1, right, 1), "lying") == 1
    shape = [dipole((height, width), across, order).to(hunt.x) for across in (True, False)]
    one, other = (tile[:, None, :] for tile in shape)
    tiled = (sign * torch.where(lying, one, other)).flatten(4, 5).flatten(2, 3)
    spare_rows, spare_columns = plane.rows - down * height, plane.columns - right * width
    top, left = spare_rows // 2, spare_columns // 2
    edges = (left, spare_columns - left, top, spare_rows - top)
    move = torch.nn.functional.pad(tiled, edges).flatten(1)
    point = hunt.x + move * (hunt.epsilon / _size(move, 1, order))
    return torch.minimum(torch.maximum(point, hunt.lower), hunt.upper)


def to_a_dipole(
    hunt: Hunt, plane: Plane, share: float, draw: Tensor, order: int = 2
) -> tuple[Patch, ...]:
    """Return one window put back to x, and another that takes what is free as one more dipole.

    What is free is counted as the norm of that order adds up: squares in L2, sizes in L1.
    """
    window = _odd_window(plane, share)
    give, take = plane.entries(window, draw[:, :2]), plane.entries(window, draw[:, 2:4])
    x_give, x_take, given = (
        v.gather(1, i) for v, i in ((hunt.x, give), (hunt.x, take), (hunt.point, give))
    )
    old = (hunt.point.gather(1, take) - x_take).unflatten(1, (plane.channels, -1))
    bare = hunt.point.scatter(1, give, x_give)
    rest = bare.gather(1, take)
    spent = _mass(hunt.point - hunt.x, 1, order)
    freed, taken = (
        _mass(move.unflatten(1, (plane.channels, -1)), 2, order)
        for move in (given - x_give, rest - x_take)
    )
    free = (hunt.epsilon.double() ** order - spent).clamp_min(0) / plane.channels
    budget = (free[:, None] + freed + taken) ** (1 / order)
    both = torch.stack([dipole(window, across, order).flatten() for across in (True, False)])
    sign = torch.where(draw[:, 5:] < 0.5, -1.0, 1.0).to(hunt.x.dtype)[:, :, None]
    shape = (
        torch.where(draw[:, 4:5] < 0.5, both[:1].to(hunt.x), both[1:].to(hunt.x))[:, None] * sign
    )
    move = shape + old / (_size(old, 2, order) + 1e-12)
    move = move / (_size(move, 2, order) + 1e-12) * budget.to(hunt.x.dtype)
    new = x_take + move.flatten(1)
    lower, upper = (wall.gather(1, take) for wall in (hunt.lower, hunt.upper))
    new = torch.minimum(torch.maximum(new, lower), upper)
    return Patch(give, x_give, given), Patch(take, new, rest)


def _odd_window(plane: Plane, share: float) -> tuple[int, int]:
    """Return a window of odd sides, 3 or more where there is room: hill and valley then differ."""
    height, width = plane.window(max(share * plane.rows * plane.columns, 3 if plane.is_line else 9))
    odd = (
        side | 1 if side | 1 <= full else side - 1
        for side, full in ((height, plane.rows), (width, plane.columns))
    )
    height, width = odd
    return height, width


def _mass(move: Tensor, dim: int, order: int) -> Tensor:
    """Return Σ |move|^order along an axis in float64, so that it rounds the same in any batch."""
    wide = move.double()
    return (wide.square() if order == 2 else wide.abs()).sum(dim, keepdim=True)


def _size(move: Tensor, dim: int, order: int) -> Tensor:
    """Return norms along an axis."""
    total = _mass(move, dim, order)
    return (total.sqrt() if order == 2 else total).to(move.dtype)
