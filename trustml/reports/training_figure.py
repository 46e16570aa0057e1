"""How a training went: curves of loss and accuracy, confusion matrix, precision and recall."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from trustml.contracts import Epoch
from trustml.errors import BadInput
from trustml.reports._drawing import canvas, png

TRAIN, VALIDATION, WRONG = "#9aa7b5", "#1f5f99", "#c44e33"
# With more classes than this the numbers in the cells could not be read.
MOST_NUMBERS = 20
LONGEST_NAME = 14


def training_figure(
    curve: Sequence[Epoch], logits: Tensor, y: Tensor, names: Sequence[str], title: str
) -> bytes:
    """Return the PNG for a training curve and the logits (B, K) of the test split labelled y (B,).

    Raises:
        BadInput: logits, labels and class names do not fit together.
    """
    if logits.dim() != 2 or y.shape != logits.shape[:1] or len(names) != logits.shape[1]:
        raise BadInput(
            f"logits {tuple(logits.shape)}, labels {tuple(y.shape)} and {len(names)} class names "
            f"do not fit: give (B, K), (B,) and K"
        )
    counts = confusion(logits, y)
    height = min(12.0, max(5.2, 0.34 * len(names) + 1.6))
    figure = canvas(10.2 + height * 0.85, height)
    grid = figure.add_gridspec(2, 3, width_ratios=(4.6, height * 0.92, 3.4))
    losses, accuracies = (figure.add_subplot(grid[row, 0]) for row in range(2))
    matrix, bars = (figure.add_subplot(grid[:, column]) for column in (1, 2))
    _losses(losses, curve)
    _accuracies(accuracies, curve)
    _matrix(matrix, counts, [_short(name) for name in names])
    _bars(bars, counts)
    right = 100 * int(counts.diagonal().sum()) / max(1, len(y))
    figure.suptitle(f"{title}: {right:.2f} % of {len(y)} test samples right", fontsize=11)
    return png(figure)


def confusion(logits: Tensor, y: Tensor) -> Tensor:
    """Return how often (K, K) each true class (row) was read as each class (column)."""
    classes = logits.shape[1]
    pairs = y.cpu() * classes + logits.argmax(1).cpu()
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _losses(axis: Any, curve: Sequence[Epoch]) -> None:
    _lines(axis, [p.train_loss for p in curve], [p.validation_loss for p in curve])
    axis.set_ylabel("loss")
    axis.tick_params(labelbottom=False)
    if curve:
        axis.legend(frameon=False, fontsize=8)
        lowest = min(range(len(curve)), key=lambda place: curve[place].validation_loss)
        axis.axvline(lowest + 1, color=VALIDATION, linewidth=0.8, linestyle=":")


def _accuracies(axis: Any, curve: Sequence[Epoch]) -> None:
    train = [100 * point.train_accuracy for point in curve]
    validation = [100 * point.validation_accuracy for point in curve]
    _lines(axis, train, validation)
    axis.set_ylabel("accuracy in %")
    axis.set_xlabel("epoch (dotted: least validation loss)" if curve else "")
    if curve:
        low = min(*train, *validation)
        axis.set_ylim(max(0.0, low - 0.08 * (100 - low) - 0.5), 100.5)


def _lines(axis: Any, train: Sequence[float], validation: Sequence[float]) -> None:
    """Draw both curves; a single point as a dot, none as a word."""
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    if not train:
        axis.text(0.5, 0.5, "not trained here", ha="center", va="center", color="gray")
        axis.set_xticks([])
        axis.set_yticks([])
        return
    epochs = range(1, len(train) + 1)
    mark = "o" if len(train) == 1 else None
    axis.plot(epochs, train, color=TRAIN, marker=mark, label="training", linewidth=1.8)
    axis.plot(epochs, validation, color=VALIDATION, marker=mark, label="validation", linewidth=1.8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_xlim(0.5, len(train) + 0.5)
    axis.grid(alpha=0.25)


def _matrix(axis: Any, counts: Tensor, names: Sequence[str]) -> None:
    """Draw shares of each row: right answers blue, wrong ones red and on a scale of their own."""
    from matplotlib.colors import PowerNorm
    from numpy.ma import masked_where

    share = (counts / counts.sum(1, keepdim=True).clamp_min(1)).numpy()
    right = torch.eye(len(names), dtype=torch.bool).numpy()
    axis.imshow(masked_where(~right, share), cmap="Blues", vmin=0, vmax=1.25)
    # Half a class astray is as red as it gets; the root lets single mistakes be seen.
    wrong = masked_where(right | (share == 0), share)
    axis.imshow(wrong, cmap="Reds", norm=PowerNorm(0.5, 0, 0.5))
    axis.set_facecolor("#f3f5f7")
    places = range(len(names)) if len(names) <= 3 * MOST_NUMBERS else range(0, len(names), 10)
    upright = max(len(name) for name in names) <= 2
    labels = [names[place] for place in places]
    axis.set_xticks(places, labels, rotation=0 if upright else 90, fontsize=8)
    axis.set_yticks(places, labels, fontsize=8)
    axis.set_xlabel("read as")
    axis.set_ylabel("true class")
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    if len(names) <= MOST_NUMBERS:
        for row, column in counts.nonzero().tolist():
            dark = share[row, column] > (0.6 if row == column else 0.3)
            axis.text(column, row, int(counts[row, column]), ha="center", va="center",
                      fontsize=7.5, color="white" if dark else "#222222")  # fmt: skip


def _bars(axis: Any, counts: Tensor) -> None:
    """Draw precision and recall in the rows of the matrix; a class without either has no bar."""
    hits = counts.diagonal().double()
    places = torch.arange(len(counts)).double()
    for shift, total, color, name in (
        (-0.19, counts.sum(0), VALIDATION, "precision"),
        (0.19, counts.sum(1), TRAIN, "recall"),
    ):
        values = torch.where(total > 0, 100 * hits / total, torch.nan)
        axis.barh((places + shift).numpy(), values.numpy(), height=0.34, color=color, label=name)
        if len(counts) <= MOST_NUMBERS:
            for place, value in zip((places + shift).tolist(), values.tolist(), strict=True):
                known = value == value
                end, word = (value, f"{value:.1f}") if known else (0, "none")
                axis.text(end + 0.5, place, word, va="center", fontsize=6.5,
                          color="#222222" if known else WRONG)  # fmt: skip
    axis.set_xlim(0, 112)
    axis.set_xticks((0, 25, 50, 75, 100))
    axis.set_ylim(len(counts) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_xlabel("precision and recall in %")
    axis.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
