"""A sticker beside the digit, printed, stuck on by hand and scanned askew."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.contracts import Classifier, Random, Split
from trustml.errors import BadOption
from trustml.registry import route
from trustml.routes._escaping import (
    along,
    check_counts,
    check_share,
    escape,
    image_sides,
    slope_of,
    unit_of,
)

TURN, SCALE, SHIFT = 10.0, 0.1, 1.0  # degrees, share, pixels: what hand and scanner do
FADE, SMEAR = 0.2, 0.1  # of contrast and of the box's side: what the printer does


@route(
    source="Eykholt et al. 2018, arXiv:1707.08945; Athalye et al. 2018, arXiv:1707.07397 (EOT)",
    via="envelope",
    knows="the model and the piece of mail",
)
def envelope_sticker(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    size: float = 0.3,
    steps: int = 40,
    draws: int = 4,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x with a sticker of its own on it, where least of the digit is hidden, scanned once.

    The sticker is made for many ways to turn, shift, scale and fade it; one of them then happens.

    Args:
        model: whose gradients draw each sticker.
        seen: tells the box and the spread of margins.
        random: not asked; each piece of mail has its own.
        size: side of the sticker, in shorter sides of the image.
        steps: along the gradient's sign.
        draws: ways in which it is scanned that each step averages over.

    Raises:
        BadOption: a size or a number that is not allowed.
        NotApplicable: the inputs are no images.
    """
    _, height, width = image_sides("envelope_sticker", seen)
    check_share("envelope_sticker", size=size)
    check_counts("envelope_sticker", steps=steps, draws=draws)
    side = max(1, round(size * min(height, width)))
    if side >= min(height, width):
        raise BadOption(
            f"envelope_sticker: {side} pixels cover an image of {height}x{width}: give less size"
        )
    unit, low, high = unit_of(model, seen), seen.low, seen.high

    def stick(x: Tensor, y: Tensor, own: Random) -> Tensor:
        where = _beside(x, side, low)
        sheet = torch.full_like(x, (low + high) / 2)
        pace = torch.zeros_like(sheet)
        for step in range(steps):
            here = sheet.detach().requires_grad_()
            lack = x.new_zeros(())
            with torch.enable_grad():
                for draw in range(draws):
                    shown = _scanned(x, here, where, own, step * draws + draw, (low, high))
                    gap = escape(model(shown), y, seen.classes) / unit
                    lack = lack + torch.nn.functional.softplus(-gap).sum()
            slope = slope_of(lack, here)
            total = slope.abs().flatten(1).sum(1).clamp_min(1e-30)
            pace = 0.9 * pace + slope / along(total, slope)
            length = (high - low) * (0.2 * (1 - step / steps) + 0.01)
            sheet = (sheet - length * pace.sign()).clamp(low, high)
        return _scanned(x, sheet, where, own, -1, (low, high)).detach()

    def frozen_stick(x: Tensor, y: Tensor, own: Random) -> Tensor:
        with frozen(model):
            return stick(x, y, own)

    return frozen_stick


def _beside(x: Tensor, side: int, low: float) -> Tensor:
    """Return masks (B, 1, H, W) of the window with least ink, near the digit among equals."""
    ink = (x - low).mean(1, keepdim=True)
    height, width = x.shape[2:]
    hidden = torch.nn.functional.avg_pool2d(ink, side, 1)
    rows = torch.arange(hidden.shape[2], device=x.device)[:, None] - (height - side) / 2
    columns = torch.arange(hidden.shape[3], device=x.device)[None] - (width - side) / 2
    far = (rows.square() + columns.square()).sqrt() / (height + width)
    # Some ink less counts for more than some way less.
    place = (hidden + 0.05 * far * ink.amax((2, 3), keepdim=True)).flatten(1).argmin(1)
    row, column = place // hidden.shape[3], place % hidden.shape[3]
    down = torch.arange(height, device=x.device)[None] - row[:, None]
    across = torch.arange(width, device=x.device)[None] - column[:, None]
    inside = ((down >= 0) & (down < side))[:, :, None] & ((across >= 0) & (across < side))[:, None]
    return inside[:, None].to(x)


def _scanned(
    x: Tensor, sheet: Tensor, where: Tensor, own: Random, step: int, box: tuple[float, float]
) -> Tensor:
    """Return the mail as the scanner sees it, its sticker turned, scaled, shifted and faded."""
    low, high = box
    chance = 2 * own.uniform((6,), "print and scan", step).to(x) - 1
    turn, scale = chance[:, 0] * TURN * torch.pi / 180, 1 + SCALE * chance[:, 1]
    height, width = x.shape[2:]
    cos, sin = turn.cos() / scale, turn.sin() / scale
    across, down = 2 * SHIFT * chance[:, 2] / width, 2 * SHIFT * chance[:, 3] / height
    # A sticker turns about itself: about the middle of its own window.
    middle_x, middle_y = _middle(where, 3), _middle(where, 2)
    move_x = middle_x - cos * middle_x + sin * middle_y + across
    move_y = middle_y - sin * middle_x - cos * middle_y + down
    theta = torch.stack([cos, -sin, move_x, sin, cos, move_y], 1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    faded = low + (sheet - low) * (1 + FADE * along(chance[:, 4], x))
    printed = (faded + SMEAR * (high - low) * along(chance[:, 5], x)).clamp(low, high)
    cover = _sampled(where, grid)
    # What shows through where the edge is soft is paper and sticker in their shares.
    inked = _sampled(printed * where, grid)
    return (x * (1 - cover) + inked).clamp(low, high)


def _sampled(image: Tensor, grid: Tensor) -> Tensor:
    sampled: Any = torch.nn.functional.grid_sample(
        image, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled


def _middle(where: Tensor, axis: int) -> Tensor:
    """Return (B,) the middle of each window along the axis, from -1 to 1."""
    size = where.shape[axis]
    places = (2 * torch.arange(size, device=where.device) + 1) / size - 1
    other = 2 if axis == 3 else 3
    share = where[:, 0].sum(other - 1)
    return (share * places).sum(1) / share.sum(1)
