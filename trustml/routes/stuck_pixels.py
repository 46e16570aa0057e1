"""Pixels of the scanner that always say the same."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from trustml.contracts import Classifier, Random, Split
from trustml.errors import BadOption
from trustml.registry import route
from trustml.routes._escaping import (
    PART,
    check_share,
    image_sides,
    shortfall,
    slope_of,
    success,
    unit_of,
)

ROUNDS = 8  # pixels are chosen in so many goes, each knowing those before


@route(
    source="Su, Vargas, Sakurai 2019, arXiv:1710.08864, made universal: a fault of the sensor",
    via="scanner",
    knows="the model, mail like that to come, and a needle or the firmware's defect map",
)
def stuck_pixels(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    share: float = 0.05,
    shape: Literal["pixels", "row", "column"] = "pixels",
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x with a few pixels stuck at the darkest or brightest, the same for all.

    Args:
        model: whose gradients choose the pixels, or whose errors choose the row or column.
        seen: the attacker's mail.
        random: which part of it is looked at.
        share: of the pixels that are stuck.
        shape: single pixels, or one whole row or column, which ignores `share`.

    Raises:
        BadOption: a share or a shape that is not allowed.
        NotApplicable: the inputs are no images.
    """
    check_share("stuck_pixels", share=share)
    _, height, width = image_sides("stuck_pixels", seen)
    lot = random.uniform((1,), "part")[:, 0].argsort(stable=True)[:PART]
    mail = seen.at(lot.to(seen.x.device))
    if shape == "pixels":
        stuck, value = _pixels(model, mail, max(1, round(share * height * width)))
    elif shape in ("row", "column"):
        stuck, value = _line(model, mail, 1 if shape == "row" else 2)
    else:
        raise BadOption(f"stuck_pixels: shape={shape!r} is not allowed: pixels, row or column")
    return lambda x, y, own: torch.where(stuck.to(x.device), value.to(x), x)


def _pixels(model: Any, mail: Split, count: int) -> tuple[Tensor, Tensor]:
    """Return which pixels (1, H, W) are stuck, and at what; greedily, by the gradient's promise."""
    unit = unit_of(model, mail)
    stuck = torch.zeros_like(mail.x[0, :1], dtype=torch.bool)
    value = torch.full_like(mail.x[0, :1], mail.low)
    goes = min(count, ROUNDS)
    for go in range(goes):
        here = torch.where(stuck, value, mail.x).requires_grad_()
        with torch.enable_grad():
            lack = shortfall(model, here, mail, mail.y, unit)
        slope = slope_of(lack, here)
        promise = torch.stack(
            [(slope * (mail.x - to)).sum((0, 1), keepdim=True)[0] for to in (mail.low, mail.high)]
        )
        promise[:, stuck] = -torch.inf
        best, which = promise.max(0)
        new = best.flatten().topk(count // goes + (go < count % goes)).indices
        stuck.view(-1)[new] = True
        chosen = torch.where(which == 1, mail.high, mail.low).to(value)
        value.view(-1)[new] = chosen.view(-1)[new]
    return stuck, value


def _line(model: Any, mail: Split, axis: int) -> tuple[Tensor, Tensor]:
    """Return the row (axis 1) or column (2) that misleads most, and at what it is stuck."""
    best, found = -1.0, (mail.x[0, :1], mail.x[0, :1])
    for place in range(mail.x.shape[axis + 1]):
        stuck = torch.zeros_like(mail.x[0, :1], dtype=torch.bool)
        stuck.select(axis, place).fill_(True)
        for to in (mail.low, mail.high):
            value = torch.full_like(mail.x[0, :1], to)
            won = success(model, mail, lambda x: torch.where(stuck, value, x))  # noqa: B023
            if won > best:
                best, found = won, (stuck, value)
    return found
