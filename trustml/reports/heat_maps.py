"""Inputs beside what several methods say of them, as a PNG."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

from trustml.errors import BadInput, NotApplicable

# The few largest entries of a map would leave the rest white.
_SHOWN = 0.995


def heat_maps(x: Tensor, maps: Mapping[str, Tensor], labels: tuple[str, ...], title: str) -> bytes:
    """Return the PNG of inputs x (N, C, H, W), a row each, with one column for each method's maps.

    Red speaks for the class and blue against it, white is 0; every map has its own scale, because
    methods have different units. The outline of a grey input is drawn over its maps.

    Raises:
        NotApplicable: the inputs are not pictures of one or three channels.
        BadInput: no inputs, maps of another shape, or not one label for each input.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise NotApplicable(f"inputs of shape {tuple(x.shape[1:])} are no pictures to draw")
    wrong = [name for name, found in maps.items() if found.shape != x.shape]
    if not len(x) or len(labels) != len(x) or wrong or not maps:
        raise BadInput(
            f"heat maps of {len(x)} inputs with {len(labels)} labels and {len(maps)} methods: give "
            f"a label for each input and maps of its shape"
            + "".join(f"; {n!r} is not" for n in wrong)
        )
    x = x.detach().cpu().float()
    rows, columns = len(x), 1 + len(maps)
    figure = Figure(
        figsize=(1.25 * columns + 0.3, 1.25 * rows + 0.8), dpi=150, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    low, high = (float(end) for end in x.aminmax())
    for row in range(rows):
        _picture(axes[row][0], x[row], (low, high))
        axes[row][0].set_ylabel(labels[row], fontsize=8)
        for column, found in enumerate(maps.values(), start=1):
            _map(axes[row][column], found[row].detach().cpu().double(), x[row])
    for axis, name in zip(axes[0], ("input", *maps), strict=True):
        axis.set_title(name.replace("_", "\n", 1), fontsize=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=10)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _picture(axis: Any, image: Tensor, span: tuple[float, float]) -> None:
    shown = ((image.movedim(0, -1) - span[0]) / max(span[1] - span[0], 1e-12)).squeeze(-1)
    axis.imshow(shown.numpy(), cmap="gray_r" if image.shape[0] == 1 else None, vmin=0, vmax=1)


def _map(axis: Any, values: Tensor, image: Tensor) -> None:
    values = values.sum(0)
    reach = float(torch.quantile(values.abs().flatten(), _SHOWN))
    # A map that is zero almost everywhere is shown up to its largest entry, or as white.
    reach = reach if reach > 0 else float(values.abs().max()) or 1.0
    axis.imshow(values.numpy(), cmap="RdBu_r", vmin=-reach, vmax=reach)
    if image.shape[0] == 1 and float(image.max()) > float(image.min()):
        middle = (float(image.max()) + float(image.min())) / 2
        axis.contour(image[0].numpy(), levels=[middle], colors="0.45", linewidths=0.5)
