"""A plugin file with pictures of 8 bits: which of three columns is the brightest."""

import torch

from trustml.contracts import Dataset, Split
from trustml.registry import data


def _pictures(first: int, count: int) -> Split:
    draws = torch.Generator().manual_seed(first)
    shades = torch.randint(0, 256, (count, 1, 4, 4), generator=draws)
    return Split(
        shades.float() / 255, shades[:, 0, :, :3].sum(1).argmax(1), torch.arange(count) + first, 3
    )


@data(source="made by hand")
def shades(*, folder: str | None) -> Dataset:
    """Return pictures of 4 x 4 pixels."""
    parts = (_pictures(1000, 400), _pictures(2000, 100), _pictures(3000, 40))
    return Dataset("shades", *parts, ("a", "b", "c"), {"linf": 8 / 255, "l2": 0.3})
