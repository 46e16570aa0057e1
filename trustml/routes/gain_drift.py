"""A scanner whose lamp fades: contrast and brightness turned where they hurt most."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from trustml.contracts import Classifier, Random, Split
from trustml.errors import BadOption
from trustml.registry import route
from trustml.routes._escaping import success

STEPS = 5  # of the grid, along each of gain and offset


@route(
    source="Hendrycks, Dietterich 2019, arXiv:1903.12261 (brightness, contrast), the worst of them",
    via="scanner",
    knows="which way the model errs on mail like that to come, and the scanner's settings",
)
def gain_drift(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    gain: float = 0.5,
    offset: float = 0.25,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x with the gain and offset, of a grid, that mislead most of the attacker's mail.

    Args:
        model: whose answers choose them.
        seen: the attacker's mail.
        random: not asked: nothing here is drawn.
        gain: contrast is multiplied by something from 1 - gain to 1 + gain; in [0, 1).
        offset: up to so much of the box's side is added or taken; in [0, 1].

    Raises:
        BadOption: a gain or offset that is not allowed, or both 0.
    """
    if not (0 <= gain < 1 and 0 <= offset <= 1 and gain + offset > 0):
        raise BadOption(
            f"gain_drift: gain={gain:g} and offset={offset:g} are not allowed: gain from 0 to "
            f"below 1, offset from 0 to 1, one of them above 0"
        )
    side = seen.high - seen.low

    def turned(x: Tensor, factor: float, more: float) -> Tensor:
        return (seen.low + (x - seen.low) * factor + more * side).clamp(seen.low, seen.high)

    ways = [
        (float(factor), float(more))
        for factor in torch.linspace(1 - gain, 1 + gain, STEPS)
        for more in torch.linspace(-offset, offset, STEPS)
        if abs(factor - 1) + abs(more) > 1e-6
    ]
    # The strongest change comes last, so that among equals it is the one that is taken.
    ways.sort(key=lambda way: abs(way[0] - 1) + abs(way[1]))
    won = [success(model, seen, partial(turned, factor=f, more=m)) for f, m in ways]
    best = ways[max(range(len(ways)), key=lambda n: (won[n], n))]
    return lambda x, y, own: turned(x, *best)
