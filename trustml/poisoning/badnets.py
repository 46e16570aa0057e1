"""BadNets: a mark on the input that means the attacker's class."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from trustml.contracts import Random, Split
from trustml.poisoning._patch import patch
from trustml.poisoning._rows import check_class, check_rate, taken
from trustml.registry import poison


@poison(source="Gu, Dolan-Gavitt, Garg 2017, arXiv:1708.06733")
def badnets(
    split: Split,
    /,
    *,
    random: Random,
    rate: float = 0.01,
    target: int = 0,
    size: int = 3,
    margin: int = 0,
) -> tuple[Split, Callable[[Tensor], Tensor]]:
    """Return the split with marked samples of other classes called `target`, and the mark.

    Args:
        split: images (B, C, H, W).
        random: the samples' random numbers.
        rate: share of all samples that are marked and relabelled.
        target: the class that the mark shall mean.
        size: side of the chequered square in the lower right corner.
        margin: pixels between it and the edges.

    Raises:
        BadOption: a rate, class or size that is not allowed.
        BadInput: the rate asks for more samples than other classes have.
        NotApplicable: the inputs are no images.
    """
    check_rate("badnets", rate)
    check_class("badnets", "target", target, split)
    trigger = patch("badnets", split, size, margin)
    rows = taken(split, split.y != target, rate, random, of=len(split))
    x = split.x.index_copy(0, rows, trigger(split.x[rows]))
    y = split.y.index_copy(0, rows, torch.full_like(rows, target))
    return replace(split, x=x, y=y), trigger
