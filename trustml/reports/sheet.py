"""Originals, adversarials and their differences side by side, as a PNG."""

from typing import Any

import torch
from torch import Tensor

from trustml.errors import NotApplicable
from trustml.reports._drawing import canvas, png


def sheet(
    pairs: tuple[Tensor, Tensor], true: tuple[str, ...], answered: tuple[str, ...], title: str
) -> bytes:
    """Return the PNG of originals and adversarials `pairs` (N, C, H, W), a column a sample.

    Differences are red where a pixel was raised and blue where it was lowered.

    Raises:
        NotApplicable: the inputs are not pictures of one or three channels.
    """
    originals, adversarials = (part.detach().cpu() for part in pairs)
    if originals.dim() != 4 or originals.shape[1] not in (1, 3):
        raise NotApplicable(f"inputs of shape {tuple(originals.shape[1:])} are no pictures to draw")
    count = len(originals)
    figure = canvas(1.1 * count + 1.1, 4.1)
    axes = figure.subplots(3, count, squeeze=False)
    change = (adversarials - originals).mean(1)
    reach = float(change.abs().max())
    low, high = (float(end) for end in torch.cat([originals, adversarials]).aminmax())
    for column in range(count):
        _picture(axes[0][column], originals[column], (low, high), true[column])
        _picture(axes[1][column], adversarials[column], (low, high), f"read as {answered[column]}")
        axes[2][column].imshow(change[column].numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach)
    for row, name in enumerate(("original", "adversarial", f"difference\n(±{reach:.2g})")):
        axes[row][0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    return png(figure)


def _picture(axis: Any, image: Tensor, span: tuple[float, float], title: str) -> None:
    shown = ((image.movedim(0, -1) - span[0]) / max(span[1] - span[0], 1e-12)).squeeze(-1)
    axis.imshow(shown.numpy(), cmap="gray_r" if image.shape[0] == 1 else None, vmin=0, vmax=1)
    axis.set_title(title, fontsize=9)
