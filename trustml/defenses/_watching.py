"""What monitors share: a checked scan, clean mail that came before, numbers of one stream."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Random, Split
from trustml.errors import BadInput, BadOption, MethodFailed

Scan = Callable[[Tensor], Tensor]
Watch = Callable[[Tensor, Scan], Tensor]


def scanned(scan: Scan, items: Tensor) -> Tensor:
    """Return what the scanner makes of items (N, *S).

    Raises:
        MethodFailed: it is of another shape, or no number.
    """
    with torch.no_grad():
        seen = scan(items)
    if seen.shape != items.shape:
        raise MethodFailed(f"the scanner made {tuple(seen.shape)} of {tuple(items.shape)}")
    if not bool(seen.isfinite().all()):
        raise MethodFailed("the scanner gives values that are no finite numbers")
    return seen.detach()


def past(validation: Split, count: int, random: Random) -> Tensor:
    """Return `count` validation inputs (count, *S) in a random order, again and again if need be.

    A watch begins with them, so that its first alarm takes as long as it does after clean mail.
    """
    order = random.uniform((), "order of the past").argsort()
    rows = order[torch.arange(count, device=order.device) % len(order)]
    return validation.x[rows.to(validation.x.device)]


def one_stream(random: Random) -> Random:
    """Return the numbers of one sample: what is drawn for item n does not depend on later ones."""
    return random.at(torch.zeros(1, dtype=torch.int64))


def vectors(model: Any, x: Tensor, reads: str) -> Tensor:
    """Return what is compared of inputs (N, *S): features (N, D), or the pixels themselves."""
    if reads == "pixels":
        return x.flatten(1)
    with torch.no_grad(), frozen(model):
        return in_blocks(lambda part: model.features(part).flatten(1), x)


def check_validation(name: str, validation: Split, least: int = 2) -> None:
    """Refuse to learn from nothing.

    Raises:
        BadInput: fewer than `least` samples.
    """
    if len(validation) < least:
        raise BadInput(
            f"{name} needs {least} validation samples or more, and there are {len(validation)}"
        )


def check_counts(name: str, **counts: int) -> None:
    """Refuse counts that are none.

    Raises:
        BadOption: one is below 1.
    """
    for option, count in counts.items():
        if count < 1:
            raise BadOption(f"{name}: {option}={count} is not allowed: 1 or more")
