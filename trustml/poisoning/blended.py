"""A faint picture over the whole input that means the attacker's class."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from trustml.contracts import Random, Split
from trustml.errors import BadOption
from trustml.poisoning._rows import check_class, check_rate, image_sides, taken
from trustml.registry import poison


@poison(source="Chen et al. 2017, arXiv:1712.05526, blended injection")
def blended(
    split: Split,
    /,
    *,
    random: Random,
    rate: float = 0.05,
    target: int = 0,
    opacity: float = 0.2,
    picture: int = 0,
) -> tuple[Split, Callable[[Tensor], Tensor]]:
    """Return the split with a random picture blended into samples called `target`, and the blend.

    Args:
        split: images (B, C, H, W).
        random: the samples' random numbers.
        rate: share of all samples that are blended and relabelled.
        target: the class that the picture shall mean.
        opacity: weight of the picture beside the sample, above 0 and up to 1.
        picture: number of the random picture; another number is another one.

    Raises:
        BadOption: a rate, class or opacity that is not allowed.
        BadInput: the rate asks for more samples than other classes have.
        NotApplicable: the inputs are no images.
    """
    check_rate("blended", rate)
    check_class("blended", "target", target, split)
    if not 0 < opacity <= 1:
        raise BadOption(f"blended: opacity={opacity:g} is not allowed: above 0, and 1 at most")
    image_sides("blended", split)
    noise = torch.rand(split.x.shape[1:], generator=torch.Generator().manual_seed(picture))
    pattern = split.low + (split.high - split.low) * noise

    def trigger(x: Tensor) -> Tensor:
        mixed = x + opacity * (pattern.to(x) - x)
        return mixed.clamp(split.low, split.high)

    rows = taken(split, split.y != target, rate, random, of=len(split))
    x = split.x.index_copy(0, rows, trigger(split.x[rows]))
    y = split.y.index_copy(0, rows, torch.full_like(rows, target))
    return replace(split, x=x, y=y), trigger
