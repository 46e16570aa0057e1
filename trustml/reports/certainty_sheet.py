"""The inputs that a model is most and least sure of, each over its predictive histogram."""

from typing import Any

import torch
from torch import Tensor

from trustml.errors import BadInput, NotApplicable
from trustml.reports._drawing import DARK, INSIDE, OUTSIDE, QUIET, bare, canvas, png, short

COUNT = 8


def certainty_sheet(
    x: Tensor,
    suspicion: Tensor,
    probabilities: Tensor,
    y: Tensor,
    class_names: tuple[str, ...],
    *,
    title: str = "",
    count: int = COUNT,
) -> bytes:
    """Return the PNG of the `count` least and the `count` most suspicious inputs.

    Bars are the mean probability of each class; with draws, a dot is one draw's probability and
    the title says how many draws voted for the answer. The true class is blue, a wrong answer red.

    Args:
        x: images (B, C, H, W).
        suspicion: higher is less certain, (B,).
        probabilities: (B, K), or of draws (S, B, K).
        y: the true classes, (B,).
        class_names: of the K classes.
        title: above the sheet.
        count: of each kind, at most.

    Raises:
        NotApplicable: the inputs are no images of one or three channels.
        BadInput: no inputs, parts that do not fit together, or NaN.
    """
    draws = (probabilities[None] if probabilities.ndim == 2 else probabilities).detach().cpu()
    _check(x, suspicion, draws, y, class_names)
    count = min(count, len(x))
    order = suspicion.detach().cpu().argsort(stable=True)
    rows = {"most certain": order[:count], "least certain": order.flip(0)[:count]}
    figure = canvas(1.35 * count + 0.7, 5.6)
    axes = figure.subplots(4, count, squeeze=False, gridspec_kw={"height_ratios": (1.25, 1) * 2})
    low, high = (float(end) for end in x.aminmax())
    for block, (name, chosen) in enumerate(rows.items()):
        for column, row in enumerate(chosen.tolist()):
            picture, bars = axes[2 * block][column], axes[2 * block + 1][column]
            _picture(picture, x[row].detach().cpu(), (low, high))
            _bars(bars, draws[:, row], int(y[row]), class_names)
            picture.set_title(_answer(draws[:, row], int(y[row]), class_names), fontsize=7.5)
        axes[2 * block][0].set_ylabel(name, fontsize=10)
        axes[2 * block + 1][0].set_ylabel("probability", fontsize=8)
    figure.suptitle(title, fontsize=11)
    return png(figure)


def _check(
    x: Tensor, suspicion: Tensor, draws: Tensor, y: Tensor, class_names: tuple[str, ...]
) -> None:
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise NotApplicable(f"inputs of shape {tuple(x.shape[1:])} are no pictures to draw")
    wanted = (len(x), len(class_names))
    if not len(x) or {len(suspicion), len(y)} != {len(x)} or draws.shape[1:] != wanted:
        raise BadInput(
            f"{len(x)} inputs, {len(suspicion)} suspicions, {len(y)} classes, probabilities "
            f"{tuple(draws.shape[1:])} and {len(class_names)} class names do not fit together"
        )
    if bool(suspicion.isnan().any()) or bool(draws.isnan().any()):
        raise BadInput("NaN among the suspicions or the probabilities")


def _answer(draws: Tensor, true: int, names: tuple[str, ...]) -> str:
    answer = int(draws.mean(0).argmax())
    votes = f" ({int((draws.argmax(1) == answer).sum())} of {len(draws)})" if len(draws) > 1 else ""
    wrong = "" if answer == true else f"\nis {short(names[true], 12)}"
    return f"{short(names[answer], 12)}{votes}{wrong}"


def _picture(axis: Any, image: Tensor, span: tuple[float, float]) -> None:
    shown = ((image.movedim(0, -1) - span[0]) / max(span[1] - span[0], 1e-12)).squeeze(-1)
    axis.imshow(shown.numpy(), cmap="gray_r" if image.shape[0] == 1 else None, vmin=0, vmax=1)
    bare(axis)


def _bars(axis: Any, draws: Tensor, true: int, names: tuple[str, ...]) -> None:
    mean, places = draws.mean(0), torch.arange(len(names))
    answer = int(mean.argmax())
    colors = [INSIDE if k == true else OUTSIDE if k == answer else QUIET for k in places.tolist()]
    axis.bar(places.numpy(), mean.numpy(), color=colors, width=0.85)
    if len(draws) > 1:
        across = places.expand(len(draws), -1).flatten()
        axis.scatter(across.numpy(), draws.flatten().numpy(), s=1.5, color=DARK, alpha=0.4,
                     linewidths=0)  # fmt: skip
    axis.set_ylim(0, 1.03)
    axis.set_xlim(-0.6, len(names) - 0.4)
    axis.set_yticks((0, 1), ())
    few = len(names) <= 10 and max(map(len, names)) <= 2
    axis.set_xticks(places.numpy() if few else (), names if few else (), fontsize=6)
    axis.tick_params(length=0, pad=1)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
