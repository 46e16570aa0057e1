"""What the figures share: a canvas, colours, and the PNG of a figure."""

from io import BytesIO
from typing import Any

INSIDE, OUTSIDE, QUIET, DARK = "#1f5f99", "#c44e33", "#c9d1d9", "#222222"
# Told apart by lightness too, for those who see fewer colours.
PALETTE = (
    "#1f5f99", "#c44e33", "#2f8f5b", "#8a5bb0", "#d19a1e", "#3ba3b5", "#7a5230", "#d4679f",
)  # fmt: skip

# Longer descriptions are not listened to.
_LONGEST = 400


def canvas(width: float, height: float) -> Any:
    """Return an empty figure of the size in inches, which no window ever shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Any) -> bytes:
    """Return the figure's PNG; its Description says in words what is drawn."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Description": described(figure)})
    return buffer.getvalue()


def described(figure: Any) -> str:
    """Return the titles, axes and legends of the figure in words, for those who cannot see it."""
    whole = figure.get_suptitle()
    panels = [_panel(axis) for axis in figure.axes]
    said = list(dict.fromkeys(words for words in (whole, *panels) if words))
    text = ". ".join(" ".join(words.split()) for words in said)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _panel(axis: Any) -> str:
    words = [axis.get_title() or axis.get_title("left")]
    if axis.axison and axis.get_xlabel() and axis.get_ylabel():
        words.append(f"{axis.get_ylabel()} against {axis.get_xlabel()}")
    elif axis.get_xlabel() or axis.get_ylabel():
        words.append(axis.get_xlabel() or axis.get_ylabel())
    legend = axis.get_legend()
    if legend is not None:
        words.append(", ".join(entry.get_text() for entry in legend.get_texts()))
    return ": ".join(word for word in words if word)


def plain(axis: Any) -> None:
    """Leave only the lower and left edge, and a faint grid."""
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.grid(alpha=0.25)


def bare(axis: Any) -> None:
    """Leave no ticks."""
    axis.set_xticks([])
    axis.set_yticks([])


def short(name: str, longest: int = 30) -> str:
    """Return the name, cut where it is longer."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
