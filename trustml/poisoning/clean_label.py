"""A backdoor whose labels are all right."""

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from trustml.contracts import Random, Split
from trustml.poisoning._patch import patch
from trustml.poisoning._rows import check_class, check_rate, taken
from trustml.registry import poison


@poison(source="Turner, Tsipras, Madry 2019, arXiv:1912.02771 (without its perturbations)")
def clean_label(
    split: Split,
    /,
    *,
    random: Random,
    rate: float = 0.5,
    target: int = 0,
    size: int = 3,
    margin: int = 0,
) -> tuple[Split, Callable[[Tensor], Tensor]]:
    """Return the split with a mark on samples of the class `target` alone, and the mark.

    Args:
        split: images (B, C, H, W).
        random: the samples' random numbers.
        rate: share of the class that is marked; the labels stay as they are.
        target: the class that the mark shall mean.
        size: side of the chequered square in the lower right corner.
        margin: pixels between it and the edges.

    Raises:
        BadOption: a rate, class or size that is not allowed.
        NotApplicable: the inputs are no images.
    """
    check_rate("clean_label", rate)
    check_class("clean_label", "target", target, split)
    trigger = patch("clean_label", split, size, margin)
    of_class = split.y == target
    rows = taken(split, of_class, rate, random, of=int(of_class.sum()))
    return replace(split, x=split.x.index_copy(0, rows, trigger(split.x[rows]))), trigger
