"""One faint pattern that the scanner adds to everything it sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from trustml.contracts import Classifier, Random, Split
from trustml.registry import route
from trustml.routes._escaping import check_counts, check_share, universal


@route(
    source="Moosavi-Dezfooli et al. 2017, arXiv:1610.08401; Shafahi et al. 2018, arXiv:1811.11304",
    via="scanner",
    knows="the model, mail like that to come, and the scanner's firmware",
)
def scanner_pattern(
    model: Classifier,
    seen: Split,
    /,
    *,
    random: Random,
    epsilon: float = 0.2,
    steps: int = 100,
) -> Callable[[Tensor, Tensor, Random], Tensor]:
    """Return x plus one pattern for all, no entry of it above `epsilon` of the box's side.

    Args:
        model: whose gradients the pattern follows.
        seen: the attacker's mail.
        random: which part of it each step looks at.
        epsilon: of the box's side, above 0 and up to 1.
        steps: along the gradient's sign.

    Raises:
        BadOption: an epsilon or a number of steps that is not allowed.
    """
    check_share("scanner_pattern", epsilon=epsilon)
    check_counts("scanner_pattern", steps=steps)
    most = torch.full_like(seen.x[0], epsilon * (seen.high - seen.low))

    def add(x: Tensor, pattern: Tensor, _: Random, __: int) -> Tensor:
        return (x + pattern.to(x)).clamp(seen.low, seen.high)

    limits = torch.stack([-most, most])
    pattern = universal(model, seen, random, torch.zeros_like(most), (add, limits, steps))
    return lambda x, y, own: add(x, pattern, own, 0)
