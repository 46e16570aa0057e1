"""A printed patch on the scanner's glass: over everything it sees, at about one place."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from trustml.contracts import Classifier, Random, Split
from trustml.errors import BadOption
from trustml.registry import route
from trustml.routes._escaping import (
    Applied,
    check_counts,
    check_share,
    image_sides,
    success,
    universal,
)

LOOKS = (-1, -3, -4)  # ways to slip that a patch is judged by; the one that happens is another
Place = tuple[int, int]  # of the upper left corner: row, column


@route(
    source="Brown et al. 2017, arXiv:1712.09665; Athalye et al. 2018, arXiv:1707.07397 (EOT)",
    via="scanner",
    knows="the model, mail like that to come, and a minute alone with the scanner",
)
def lens_sticker(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    size: float = 0.3,
    slip: int = 1,
    steps: int = 60,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x behind a square patch, the same for all, stuck on by hand.

    The best of nine places is taken. The patch is made for every way in which it may slip, and
    then slips in one of them.

    Args:
        model: whose gradients draw the patch.
        seen: the attacker's mail.
        random: how the patch slips.
        size: side of the patch, in shorter sides of the image.
        slip: pixels by which the hand may miss, each way.
        steps: along the gradient's sign, at the best place.

    Raises:
        BadOption: a size, slip or number of steps that is not allowed.
        NotApplicable: the inputs are no images.
    """
    channels, height, width = image_sides("lens_sticker", seen)
    check_share("lens_sticker", size=size)
    check_counts("lens_sticker", steps=steps)
    side = max(1, round(size * min(height, width)))
    if slip < 0 or side + 2 * slip > min(height, width):
        raise BadOption(
            f"lens_sticker: a patch of {side} pixels that slips by {slip} does not fit into an "
            f"image of {height}x{width}: give a smaller size, or slip=0"
        )
    box = torch.tensor([seen.low, seen.high]).to(seen.x).view(2, 1, 1, 1)
    limits = box.expand(2, channels, side, side)
    gray = torch.full((channels, side, side), (seen.low + seen.high) / 2).to(seen.x)
    one = random.at(torch.zeros(1, dtype=torch.int64))
    tried: list[tuple[float, int, Applied, Tensor]] = []
    for place in _places(height - side, width - side, slip):
        apply: Applied = partial(_slipped, place=place, one=one, slip=slip)
        brief = (apply, limits, max(1, steps // 5))
        short = universal(model, seen, random, gray, brief)
        won = sum(
            success(model, seen, lambda x: apply(x, short, one, look))  # noqa: B023
            for look in LOOKS
        )
        tried.append((won, len(tried), apply, short))
    _, _, apply, start = max(tried, key=lambda entry: entry[:2])
    patch = universal(model, seen, random, start, (apply, limits, steps), looks=LOOKS)
    return lambda x, y, own: apply(x, patch, own, -2)


def _places(rows: int, columns: int, slip: int) -> list[Place]:
    """Return nine places of the upper left corner that leave room to slip."""
    down = sorted({slip, rows // 2, rows - slip})
    across = sorted({slip, columns // 2, columns - slip})
    return [(row, column) for row in down for column in across]


def _slipped(
    x: Tensor, patch: Tensor, _: Random, step: int, *, place: Place, one: Random, slip: int
) -> Tensor:
    """Return x behind the patch, slipped as the step's numbers say; the same for all mail."""
    return _stuck(x, patch, place, _slip(one, slip, step))


def _slip(one: Random, slip: int, step: int) -> Place:
    by = one.integers(2 * slip + 1, (2,), "slip", step)[0] - slip
    return int(by[0]), int(by[1])


def _stuck(x: Tensor, patch: Tensor, place: Place, by: Place) -> Tensor:
    """Return x behind the patch; gradients reach the patch."""
    row, column = place[0] + by[0], place[1] + by[1]
    height, width = x.shape[2:]
    bottom, right = height - row - patch.shape[1], width - column - patch.shape[2]
    pads = (column, right, row, bottom)
    cover = torch.nn.functional.pad(torch.ones_like(patch), pads)
    return x * (1 - cover).to(x) + torch.nn.functional.pad(patch, pads).to(x)
