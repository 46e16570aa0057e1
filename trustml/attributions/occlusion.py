"""Occlusion: what the class's logit loses when a window is covered."""

import torch
from torch import Tensor

from trustml.attributions._calling import MOST_ROWS, at_least, attributing
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Access, Classifier
from trustml.registry import attribution


@attribution(source="Zeiler, Fergus 2014, arXiv:1311.2901, §4.2", needs=Access.LOGITS)
def occlusion(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    window: int = 4,
    stride: int = 4,
) -> Tensor:
    """Return the loss of logit (B, *S) under each window, shared out evenly to what it covers.

    Where windows overlap an entry gets the mean of those that cover it. Inputs that are no images
    are covered entry by entry.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: what a covered entry is set to.
        window: side of the square in pixels, all channels at once.
        stride: how far it moves; windows tile the image when it equals `window`.

    Raises:
        BadOption: a window or stride below 1, or a stride that leaves gaps.
    """
    from captum.attr import Occlusion

    at_least("occlusion", window=(window, stride), stride=(stride, 1))
    shape = tuple(x.shape[1:])
    window_shape, strides = (1,) * len(shape), (1,) * len(shape)
    if x.dim() == 4:
        sides = (min(window, shape[1]), min(window, shape[2]))
        window_shape = (shape[0], *sides)
        strides = (shape[0], min(stride, sides[0]), min(stride, sides[1]))
    with attributing("occlusion", model, x, target), torch.no_grad():
        maps = Occlusion(model).attribute(
            x,
            window_shape,
            strides=strides,
            baselines=baseline_of(baseline, model, x, target, background),
            target=target,
            perturbations_per_eval=max(1, MOST_ROWS // len(x)),
        )
    return (maps / _covered(shape, window_shape, strides).to(maps)).to(x.dtype)


def _covered(shape: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...]) -> Tensor:
    """Return for each entry the mean number of entries (*S) in the windows that cover it."""
    area = torch.ones((), dtype=torch.float64)
    for side, wide, step in zip(shape, window, strides, strict=True):
        # A window that reaches over the end covers less; windows of the sides are independent.
        starts = range(0, max(side - wide, 0) + step, step)
        total, count = torch.zeros(side).double(), torch.zeros(side).double()
        for start in starts:
            size = min(start + wide, side) - start
            if size > 0:
                total[start : start + size] += size
                count[start : start + size] += 1
        area = area[..., None] * (total / count)
    return area
