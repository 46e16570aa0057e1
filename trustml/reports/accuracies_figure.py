"""Accuracies in and out of the distribution, side by side."""

from collections.abc import Mapping

from trustml.contracts import Score
from trustml.errors import BadInput
from trustml.reports._drawing import DARK, PALETTE, QUIET, canvas, plain, png, short

COLORS = (PALETTE[0], PALETTE[4], PALETTE[1])


def accuracies_figure(
    groups: Mapping[str, Mapping[str, Score]], *, chance: float | None = None, title: str = ""
) -> bytes:
    """Return the PNG of accuracies as bars with their 95 % intervals, a colour a group.

    Args:
        groups: group → split → accuracy, as {"inside": {"test": …}, "shift": {"usps": …},
            "outside": {"inverted": …}}; of splits that have right answers.
        chance: the accuracy of guessing, drawn as a dotted line.
        title: above the figure.

    Raises:
        BadInput: no accuracy.
    """
    colors = dict(zip(groups, COLORS, strict=False))
    bars = [(g, name, score) for g, scores in groups.items() for name, score in scores.items()]
    if not bars:
        raise BadInput("no accuracy: there is nothing to draw")
    figure = canvas(max(4.2, 0.85 * len(bars) + 1.6), 3.9)
    axis = figure.subplots()
    named: set[str] = set()
    for place, (group, _, score) in enumerate(bars):
        value, low, high = (100 * end for end in (score.value, score.low, score.high))
        label = None if group in named else group
        named.add(group)
        axis.bar(place, value, color=colors.get(group, QUIET), width=0.7, alpha=0.85, label=label)
        axis.errorbar(place, value, yerr=[[value - low], [high - value]], color=DARK, capsize=3)
        axis.text(place, high + 1.5, f"{value:.1f}", ha="center", fontsize=8)
    if chance is not None:
        axis.axhline(100 * chance, color=DARK, linewidth=0.8, linestyle=":", label="chance")
    plain(axis)
    axis.grid(axis="x", visible=False)
    axis.set_xticks(range(len(bars)), [short(name, 18) for _, name, _ in bars], fontsize=8,
                    rotation=25, ha="right")  # fmt: skip
    axis.set_ylim(0, 112)
    axis.set_yticks(range(0, 101, 20))
    axis.set_ylabel("accuracy, %")
    axis.legend(fontsize=8, frameon=False, ncols=4, loc="upper right", bbox_to_anchor=(1, 1.12))
    figure.suptitle(title, fontsize=11)
    return png(figure)
