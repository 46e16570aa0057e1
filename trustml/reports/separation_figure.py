"""How detectors part odd from ordinary inputs: ROC, precision-recall, histograms, risk-coverage."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from trustml.errors import BadInput
from trustml.ranks import Ranked, Side, aurc, auroc, average_precision, ranked
from trustml.reports._drawing import (
    DARK,
    INSIDE,
    OUTSIDE,
    PALETTE,
    QUIET,
    canvas,
    plain,
    png,
    short,
)

Suspicions = Mapping[str, tuple[Tensor, Tensor]]
BINS = 40
COLUMNS = 3
# Of a histogram's values this share may lie beyond its edges, in the outermost bars.
TAIL = 0.005


def separation_figure(
    suspicions: Suspicions, names: tuple[str, str] = ("inside", "outside"), title: str = ""
) -> bytes:
    """Return the PNG of ROC and both precision-recall curves, a line a detector.

    The best eight by AUROC have a colour; others are grey.

    Args:
        suspicions: detector → suspicions of ordinary and of odd samples, (B,) and (B',).
        names: what the two sides are called, as ("right", "wrong").
        title: above the figure.

    Raises:
        BadInput: no detector, no sample on a side, or a suspicion that is NaN.
    """
    groups = {name: ranked(a, b, names) for name, (a, b) in _some(suspicions).items()}
    order = sorted(groups, key=lambda name: -auroc(groups[name])[0])
    figure = canvas(13.2, 5.5)
    panels = figure.subplots(1, 3)
    for place, name in reversed(list(enumerate(order))):
        _curves(panels, groups[name], place, name)
    ordinary, odd = names
    for axis, (across, up, area) in zip(
        panels,
        (
            (f"{ordinary} flagged, %", f"{odd} flagged, %", "AUROC, %"),
            (f"{odd} found (recall), %", f"precision, positive: {odd}, %", "area, %"),
            (f"{ordinary} kept (recall), %", f"precision, positive: {ordinary}, %", "area, %"),
        ),
        strict=True,
    ):
        plain(axis)
        axis.set(xlim=(0, 100), ylim=(0, 101), xlabel=across, ylabel=up)
        handles, labels = axis.get_legend_handles_labels()
        if handles:
            axis.legend(handles[::-1], labels[::-1], fontsize=7.5, frameon=False, ncols=2,
                        title=area, title_fontsize=7.5, loc="upper left",
                        bbox_to_anchor=(0, -0.14))  # fmt: skip
    panels[0].plot((0, 100), (0, 100), color=DARK, linewidth=0.8, linestyle=":")
    _base_rate(panels, next(iter(groups.values())))
    more = len(order) - len(PALETTE)
    figure.suptitle(title + (f" ({more} more in grey)" if more > 0 else ""), fontsize=11)
    return png(figure)


def histogram_figure(
    suspicions: Suspicions, names: tuple[str, str] = ("inside", "outside"), title: str = ""
) -> bytes:
    """Return the PNG of the suspicions' histograms, a panel a detector, best AUROC first.

    Raises:
        BadInput: no detector, no sample on a side, or a suspicion that is NaN.
    """
    groups = {name: ranked(a, b, names) for name, (a, b) in _some(suspicions).items()}
    order = sorted(groups, key=lambda name: -auroc(groups[name])[0])
    columns = min(COLUMNS, len(order))
    rows = -(-len(order) // columns)
    figure = canvas(3.9 * columns + 0.4, 2.1 * rows + 0.7)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, name in zip(panels, order, strict=False):
        _histogram(axis, groups[name], names)
        axis.set_title(f"{short(name)}  AUROC {100 * auroc(groups[name])[0]:.1f} %", fontsize=9)
    for axis in panels[len(order) :]:
        axis.set_visible(False)
    figure.axes[0].legend(fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel("suspicion", fontsize=9)
    return png(figure)


def risk_figure(suspicions: Mapping[str, Tensor], wrong: Tensor, title: str = "") -> bytes:
    """Return the PNG of error rate against coverage, a line a detector, with the best there is.

    Args:
        suspicions: detector → suspicions (B,) of the same answers.
        wrong: which of the answers are wrong, (B,) bool.
        title: above the figure.

    Raises:
        BadInput: no detector, no answer, or a suspicion that is NaN.
    """
    lost = wrong.bool().cpu()
    groups = {
        name: ranked(given.cpu()[~lost], given.cpu()[lost], ("right", "wrong"), empty=True)
        for name, given in _some(suspicions).items()
    }
    areas = {name: float(aurc(*_accepted(known))[0]) for name, known in groups.items()}
    order = sorted(groups, key=areas.__getitem__)
    figure = canvas(8.6, 4.6)
    axis = figure.subplots()
    for place, name in reversed(list(enumerate(order))):
        right, errors = (side.upto[0] for side in _accepted(groups[name]))
        taken = right + errors
        color, label = _style(place, f"{short(name)}  {100 * areas[name]:.2f}")
        across, risk = 100 * taken / taken[-1], 100 * errors / taken
        # Within a group of equal suspicion, the first one too, its own error rate is met.
        across, risk = np.concatenate([[0], across]), np.concatenate([risk[:1], risk])
        axis.plot(across, risk, color=color, label=label, linewidth=1.5)
    count, errors = len(lost), int(lost.sum())
    taken = np.arange(1, count + 1)
    best = np.maximum(taken - (count - errors), 0) / taken
    axis.plot(
        100 * taken / count, 100 * best, color=DARK, linestyle="--", linewidth=1, label="best"
    )
    rate = 100 * errors / count
    axis.axhline(rate, color=DARK, linestyle=":", linewidth=1, label="blind")
    plain(axis)
    axis.set(xlim=(0, 100), xlabel="accepted, % (coverage)", ylabel="of these wrong, % (risk)")
    axis.set_ylim(0, max(1.6 * rate, 1e-3))
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles[::-1], labels[::-1], fontsize=7, frameon=False, title="AURC in %",
                title_fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))  # fmt: skip
    figure.suptitle(title, fontsize=11)
    return png(figure)


def _some(suspicions: Mapping[str, Any]) -> Mapping[str, Any]:
    if not suspicions:
        raise BadInput("no detector: there is nothing to draw")
    return suspicions


def _accepted(known: Ranked) -> tuple[Side, Side]:
    """Return right and wrong answers, the least suspicious first."""
    return Side(known.ordinary[None]).backwards, Side(known.odd[None]).backwards


def _curves(panels: Any, known: Ranked, place: int, name: str) -> None:
    ordinary, odd = Side(known.ordinary[None]), Side(known.odd[None])
    flagged = [np.concatenate([[0], side.upto[0] / side.total[0]]) for side in (ordinary, odd)]
    color, label = _style(place, f"{short(name)}  {100 * auroc(known)[0]:.1f}")
    panels[0].plot(*(100 * share for share in flagged), color=color, label=label, linewidth=1.5)
    pairs = ((odd, ordinary), (ordinary.backwards, odd.backwards))
    for axis, (positive, negative) in zip(panels[1:], pairs, strict=True):
        found = positive.upto[0] / positive.total[0]
        precision = positive.upto[0] / (positive.upto[0] + negative.upto[0])
        area = float(average_precision(positive, negative)[0])
        color, label = _style(place, f"{short(name)}  {100 * area:.1f}")
        # Average precision is the area under these steps.
        across, height = np.concatenate([[0], found]), np.concatenate([precision[:1], precision])
        axis.step(100 * across, 100 * height, color=color, label=label, linewidth=1.5)


def _style(place: int, label: str) -> tuple[str, str | None]:
    return (PALETTE[place], label) if place < len(PALETTE) else (QUIET, None)


def _base_rate(panels: Any, known: Ranked) -> None:
    share = 100 * known.odd.sum() / (known.odd.sum() + known.ordinary.sum())
    for axis, height in ((panels[1], share), (panels[2], 100 - share)):
        axis.axhline(height, color=DARK, linewidth=0.8, linestyle=":")


def _histogram(axis: Any, known: Ranked, names: tuple[str, str]) -> None:
    """Draw shares of each side; values beyond the edges are in the outermost bars."""
    values = np.repeat(known.suspicion, known.ordinary + known.odd)
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, (TAIL, 1 - TAIL)) if len(finite) else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    for side, name, color in (
        (known.ordinary, names[0], INSIDE),
        (known.odd, names[1], OUTSIDE),
    ):
        heights, _ = np.histogram(known.suspicion.clip(low, high), edges, weights=side)
        axis.stairs(100 * heights / side.sum(), edges, fill=True, alpha=0.5, color=color)
        axis.stairs(100 * heights / side.sum(), edges, color=color, label=name, linewidth=1)
    plain(axis)
    axis.set_xlim(low, high)
    axis.set_ylabel("% of each", fontsize=8)
    axis.tick_params(labelsize=7)
