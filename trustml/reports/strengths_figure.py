"""What remains under each attack, as bars with intervals, beside what is clean and proved."""

from collections.abc import Sequence
from typing import Any

from trustml.contracts import Record, Score
from trustml.reports._drawing import DARK, INSIDE, OUTSIDE, QUIET, canvas, plain, png
from trustml.reports.tables import apart, spec_of

_NAMES = {"all": "all together (worst case)", "certificate": "proved"}


def strengths_figure(records: Sequence[Record]) -> bytes:
    """Return the PNG, a panel for each model, seed and threat of the exam of robustness.

    The grey bar behind is the clean accuracy; the worst case of all attacks is drawn in red.
    """
    groups: dict[tuple[str, int, str], list[Record]] = {}
    for record in records:
        if record.status == "done" and record.kind != "pooled" and _left(record):
            key = (record.model, record.seed, _budget(record))
            groups.setdefault(key, []).append(record)
    most = max(map(len, groups.values()))
    figure = canvas(7.2, len(groups) * (1.0 + 0.34 * most))
    axes = figure.subplots(len(groups), 1, squeeze=False)[:, 0]
    for axis, (key, group) in zip(axes, groups.items(), strict=True):
        _panel(axis, group, f"{spec_of(key[0])[0]}, seed {key[1]}, {key[2]}")
    return png(figure)


def _left(record: Record) -> Score | None:
    return record.scores.get("robust accuracy") or record.scores.get("certified accuracy")


def _budget(record: Record) -> str:
    return f"{record.threat['norm']} ≤ {record.threat['epsilon']:.4g}"


def _panel(axis: Any, group: Sequence[Record], title: str) -> None:
    attacks = iter(apart([(r.plugin, r.options) for r in group if r.plugin not in _NAMES]))
    names = [_NAMES[r.plugin] if r.plugin in _NAMES else next(attacks) for r in group]
    for row, record in enumerate(group):
        score, clean = _left(record), record.scores.get("clean accuracy")
        assert score is not None  # it is in the group for that
        if clean is not None:
            axis.barh(row, 100 * clean.value, color=QUIET, height=0.72)
        colour = OUTSIDE if record.plugin == "all" else INSIDE
        axis.barh(row, 100 * score.value, color=colour, height=0.46)
        axis.plot([100 * score.low, 100 * score.high], [row, row], color=DARK, linewidth=1.4)
        axis.text(101, row, f"{100 * score.value:.1f} %", va="center", fontsize=8)
    axis.set_yticks(range(len(group)), names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_xlabel("right answers that remain, in % (grey: without any attack)", fontsize=8)
    axis.set_title(title, fontsize=9, loc="left")
    plain(axis)
