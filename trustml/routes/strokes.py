"""A stray stroke of the pen or two: few entries, each at will."""

from collections.abc import Callable

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier, Random, Split
from trustml.registry import route
from trustml.routes._escaping import check_counts, check_share, escape, image_sides


@route(
    source="Giulivi et al. 2023, arXiv:2303.04278 (adversarial scratches); L0 by random search",
    via="envelope",
    knows="the model's answers to its tries, and the piece of mail",
)
def strokes(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    count: int = 1,
    length: float = 0.4,
    queries: int = 60,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x with straight strokes of ink, one pixel wide, at the best places that were tried.

    Args:
        model: whose answers are asked for.
        seen: tells what is paper and what is ink: the commonest value at the edges is paper.
        random: not asked; each piece of mail has its own.
        count: strokes.
        length: of each, in shorter sides of the image.
        queries: tries, shared among the strokes.

    Raises:
        BadOption: a length or a number that is not allowed.
        NotApplicable: the inputs are no images.
    """
    _, height, width = image_sides("strokes", seen)
    check_share("strokes", length=length)
    check_counts("strokes", count=count, queries=queries)
    pixels = max(1, round(length * min(height, width)))
    edge = torch.cat([seen.x[..., 0, :].flatten(), seen.x[..., -1, :].flatten()]).median()
    ink = seen.low if float(edge) > (seen.low + seen.high) / 2 else seen.high

    def draw(x: Tensor, y: Tensor, own: Random) -> Tensor:
        best = x
        with torch.no_grad(), frozen(model):
            gap = escape(in_blocks(model, x), y, seen.classes)
            for number in range(count):
                before = best
                for query in range(max(1, queries // count)):
                    drawn = _stroke(x, pixels, own, number * queries + query)
                    tried = torch.where(drawn, ink, before)
                    now = escape(in_blocks(model, tried), y, seen.classes)
                    # The first try is kept whatever it does: a stroke is drawn in any case.
                    better = (now > gap) if query else torch.ones_like(now, dtype=torch.bool)
                    best = torch.where(better.view(-1, 1, 1, 1), tried, best)
                    gap = torch.where(better, now, gap)
        return best

    return draw


def _stroke(x: Tensor, pixels: int, own: Random, step: int) -> Tensor:
    """Return masks (B, 1, H, W) of one straight stroke each."""
    height, width = x.shape[2:]
    lot = own.uniform((3,), "stroke", step).to(x)
    turn = lot[:, 2] * torch.pi
    # Along its longer axis it goes pixel by pixel, so that it takes `pixels` of them.
    way = torch.stack([turn.sin(), turn.cos()], 1)
    way = way / way.abs().amax(1, keepdim=True)
    at = torch.arange(pixels, device=x.device)[None] - (pixels - 1) / 2
    rows = lot[:, :1] * (height - 1) + way[:, :1] * at
    columns = lot[:, 1:2] * (width - 1) + way[:, 1:] * at
    row, column = rows.round().long(), columns.round().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    flat = torch.where(inside, row * width + column, height * width)
    drawn = torch.zeros(len(x), height * width + 1, dtype=torch.bool, device=x.device)
    drawn.scatter_(1, flat, True)
    return drawn[:, :-1].view(-1, 1, height, width)
