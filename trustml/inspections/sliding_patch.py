"""Sliding patch: small squares on every place; which class do inputs turn into, by answers?"""

from collections.abc import Iterator
from math import ceil

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.contracts import Classifier, Random, Split, Suspects
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.registry import inspection

# Of the candidates of a class the best so many are looked at again, on other inputs.
KEPT = 3
# Rows of one question; answers to a few rows are not worth the way to a server.
_ROWS = 512

Place = tuple[int, int, Tensor]


@inspection(source="trustml: exhaustive search for the patch of BadNets (arXiv:1708.06733)")
def sliding_patch(
    model: Classifier,
    clean: Split,
    /,
    *,
    random: Random,
    side: int = 0,
    few: int = 8,
    many: int = 150,
) -> Suspects:
    """Return the odds with which the best patch of each class turns other inputs into it.

    A bright square, a dark one and two chequered ones are laid on each place, of large pictures on
    places a quarter of their side apart; the best places of a class are judged on inputs that did
    not choose them. It reads answers alone, labels will do, so it looks where there are no
    gradients. A trigger of another kind (large and faint, coloured, moving) it does not see.

    Args:
        model: anything that answers.
        clean: images (B, C, H, W) of the inspector's own.
        random: draws the inputs.
        side: of the square in pixels; 0 is a ninth of the picture's, and 2 at least.
        few: inputs that every place is tried on.
        many: further inputs that the best places are tried on.

    Raises:
        BadOption: counts below 1, or a square larger than the picture.
        BadInput: fewer than two clean inputs.
        NotApplicable: the inputs are no images.
    """
    _check(clean, side, few, many)
    shape = tuple(clean.x.shape[1:])
    lot = random.uniform((1,), "inputs")[:, 0].argsort(stable=True).to(clean.x.device)
    few = min(few, len(clean) // 2)
    choosing, judging = clean.at(lot[:few]), clean.at(lot[few : few + many])
    size = side or _side(shape)
    squares = _squares(size, clean.x.new_tensor([clean.low, clean.high]))
    there = list(_places(shape, size, squares))
    with frozen(model), torch.no_grad():
        first = _turned(model, choosing, there)
        # Equal shares are decided by the place, for every class alike.
        best = first.sort(dim=0, descending=True, stable=True).indices[:KEPT].T.reshape(-1)
        again = _turned(model, judging, [there[int(n)] for n in best])
    again = again.view(clean.classes, -1, clean.classes).diagonal(dim1=0, dim2=2)  # (kept, K)
    which = again.argmax(0)
    count = (judging.y[:, None] != torch.arange(clean.classes, device=judging.y.device)).sum(0)
    hits = again.amax(0) * count
    odds = (hits + 0.5) / (count - hits + 0.5)
    rows = best.view(clean.classes, -1)
    chosen = [there[int(rows[k, which[k]])] for k in range(clean.classes)]
    dark, none = torch.full_like(clean.x[:1], clean.low), torch.zeros_like(clean.x[:1, :1])
    masks = [_pasted(none, (row, column, square * 0 + 1)) for row, column, square in chosen]
    triggers = [_pasted(dark, place) for place in chosen]
    return Suspects(odds, torch.cat(triggers), torch.cat(masks))


def questions(
    shape: tuple[int, ...], classes: int, side: int = 0, few: int = 8, many: int = 150
) -> int:
    """Return how many inputs a model of images (C, H, W) is asked about at most, by default."""
    size = side or _side(shape)
    squares = _squares(size, torch.tensor([0.0, 1.0]))
    return len(list(_places(shape, size, squares))) * few + classes * KEPT * many


def _check(clean: Split, side: int, few: int, many: int) -> None:
    shape = tuple(clean.x.shape[1:])
    if len(shape) != 3:
        raise NotApplicable(
            f"sliding_patch needs images (channels, height, width), and these inputs have the "
            f"shape {shape}"
        )
    if min(few, many) < 1 or not 0 <= side <= min(shape[1:]):
        raise BadOption(
            f"sliding_patch: side={side},few={few},many={many} is not allowed: counts of 1 or "
            f"more, and a side of 0 to {min(shape[1:])}"
        )
    if len(clean) < 2:
        raise BadInput("sliding_patch: it takes two clean inputs or more")


def _side(shape: tuple[int, ...]) -> int:
    return min(max(2, ceil(min(shape[1:]) / 9)), *shape[1:])


def _squares(side: int, ends: Tensor) -> list[Tensor]:
    """Return squares (side, side): bright, dark, chequered, and chequered the other way."""
    line = torch.arange(side, device=ends.device)
    chequered = (line[:, None] + line) % 2
    whole = torch.ones_like(chequered)
    return [ends[pattern] for pattern in (whole, 0 * whole, chequered, 1 - chequered)]


def _places(shape: tuple[int, ...], side: int, squares: list[Tensor]) -> Iterator[Place]:
    """Yield row, column and square of each patch; the far edges are always among the places."""
    step = max(1, side // 4)
    rows, columns = ([*range(0, size - side, step), size - side] for size in shape[1:])
    yield from ((row, column, one) for one in squares for row in rows for column in columns)


def _turned(model: Classifier, split: Split, places: list[Place]) -> Tensor:
    """Return the share of the inputs of other classes that each place turns into each (P, K)."""
    found = []
    at_once = max(1, _ROWS // len(split))
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        x = torch.cat([_pasted(split.x, place) for place in some])
        labels = model(x).argmax(1).view(len(some), len(split))
        found.append(labels)
    classes = torch.arange(split.classes, device=split.y.device)
    other = split.y[None, :, None] != classes
    said = torch.cat(found)[:, :, None] == classes
    return (said & other).sum(1).double() / other.sum(1).clamp_min(1)


def _pasted(x: Tensor, place: Place) -> Tensor:
    """Return the images (B, C, H, W) with the patch on them, the same in each channel."""
    row, column, square = place
    x = x.clone()
    x[:, :, row : row + square.shape[0], column : column + square.shape[1]] = square
    return x
