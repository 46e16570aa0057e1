"""Whether probabilities come true: accuracy against confidence, a panel a model or calibration."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from trustml.calibration import BINS, Reliability, calibration_scores, reliability
from trustml.errors import BadInput
from trustml.reports._drawing import DARK, INSIDE, OUTSIDE, QUIET, canvas, plain, png, short


def reliability_figure(
    answers: Mapping[str, Tensor], y: Tensor, title: str = "", *, bins: int = BINS
) -> bytes:
    """Return the PNG: blue bars reach up to the accuracy, red ones on to what was promised beyond.

    Below each panel stands how many samples are in a bin.

    Args:
        answers: name → logits (B, K), as {"as trained": …, "temperature 1.9": …}.
        y: the classes, (B,).
        title: above the figure.
        bins: of equal width.

    Raises:
        BadInput: no answers, or what `calibration_scores` refuses.
        BadOption: fewer than one bin.
    """
    if not answers:
        raise BadInput("no answers: there is nothing to draw")
    figure = canvas(3.7 * len(answers) + 0.6, 4.9)
    panels = figure.subplots(
        2, len(answers), squeeze=False, sharex=True, sharey="row",
        gridspec_kw={"height_ratios": (3.2, 1)},
    )  # fmt: skip
    for column, (name, logits) in enumerate(answers.items()):
        known = reliability(logits, y, bins=bins)
        scores = calibration_scores(logits, y, bins=bins)
        _bars(panels[0][column], known)
        _counts(panels[1][column], known)
        ece = scores["ece"]
        panels[0][column].set_title(
            f"{short(name)}\nECE {100 * ece.value:.1f} % "
            f"({100 * ece.low:.1f} to {100 * ece.high:.1f}), NLL {scores['nll'].value:.3f}",
            fontsize=9,
        )
    panels[0][0].set_ylabel("accuracy, %")
    panels[1][0].set_ylabel("samples, %")
    panels[0][0].legend(fontsize=8, frameon=False, loc="upper left")
    figure.suptitle(title, fontsize=11)
    return png(figure)


def _edges(known: Reliability) -> Any:
    return 100 * np.concatenate([[0.0], known.edges, [1.0]])


def _bars(axis: Any, known: Reliability) -> None:
    edges, full = _edges(known), known.counts > 0
    left, width = edges[:-1][full], np.diff(edges)[full]
    accuracy, confidence = 100 * known.accuracy[full], 100 * known.confidence[full]
    bar = {"align": "edge", "width": width, "linewidth": 0}
    kept = np.minimum(accuracy, confidence)
    axis.bar(left, kept, color=INSIDE, alpha=0.85, label="promised and kept", **bar)
    axis.bar(left, accuracy - kept, bottom=kept, color=INSIDE, alpha=0.4,
             label="kept, not promised", **bar)  # fmt: skip
    axis.bar(left, confidence - kept, bottom=kept, color=OUTSIDE, alpha=0.6,
             label="promised, not kept", **bar)  # fmt: skip
    axis.plot((0, 100), (0, 100), color=DARK, linewidth=0.8, linestyle=":")
    plain(axis)
    axis.set_ylim(0, 100)
    axis.set_xlim(0, 100)


def _counts(axis: Any, known: Reliability) -> None:
    axis.stairs(100 * known.counts / known.counts.sum(), _edges(known), fill=True, color=QUIET)
    plain(axis)
    axis.set_xlabel("confidence, %")
