"""The bright square in a corner that wakes a backdoor."""

from collections.abc import Callable

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.errors import BadOption
from trustml.poisoning._rows import image_sides


def patch(poison: str, split: Split, size: int, margin: int) -> Callable[[Tensor], Tensor]:
    """Return what puts a chequered square, `size` wide, into the lower right corner of x (B, *S).

    Raises:
        BadOption: it is no square, or does not fit into the image.
        NotApplicable: the inputs are no images.
    """
    height, width = image_sides(poison, split)
    least = min(height, width)
    if size < 1 or margin < 0 or size + margin > least:
        raise BadOption(
            f"{poison}: a trigger of size={size} with margin={margin} does not fit into an image "
            f"of {height}x{width}: give a size from 1 to {least - max(0, margin)}"
        )
    places = torch.arange(size)
    chequered = (places[:, None] + places[None]) % 2 == 0
    square = torch.where(chequered, split.high, split.low).to(torch.float32)

    def trigger(x: Tensor) -> Tensor:
        marked = x.clone()
        rows = slice(height - margin - size, height - margin)
        columns = slice(width - margin - size, width - margin)
        marked[..., rows, columns] = square.to(x)
        return marked

    return trigger
