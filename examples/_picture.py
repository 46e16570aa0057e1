"""The gallery's one style: colours, axes, titles, and where the PNG goes."""

import sys
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK, GREY, PALE = "#1f2933", "#7b8794", "#e4e7eb"
BLUE, ORANGE, GREEN, PURPLE, RED = "#2563eb", "#ea580c", "#059669", "#7c3aed", "#dc2626"
# Light to dark in one hue: more is darker.
DEPTH = LinearSegmentedColormap.from_list("depth", ["#f8fafc", "#93c5fd", "#1d4ed8", "#172554"])
# Two sides with a pale middle: 0 is one class, 1 the other, ½ undecided.
SIDES = LinearSegmentedColormap.from_list(
    "sides", ["#1d4ed8", "#93c5fd", "#f8fafc", "#fdba74", "#c2410c"]
)

plt.rcParams.update(
    {
        "figure.dpi": 150,
        "savefig.dpi": 150,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "xtick.color": GREY,
        "ytick.color": GREY,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.8,
    }
)


def panels(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure of the size in inches and its rows·columns axes, row by row."""
    figure, grid = plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **options
    )
    return figure, list(grid.flat)


def headline(figure: Figure, title: str, explanation: str) -> None:
    """Write the picture's title, and under it, wrapped to its width, what there is to see."""
    width, height = figure.get_size_inches()
    text = fill(explanation, int(13 * width))
    room = 0.45 + 0.18 * (text.count("\n") + 1)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - room / height))
    figure.text(0.012, 1 - 0.12 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(0.012, 1 - 0.41 / height, text, color="#52606d", va="top", linespacing=1.35)


def save(figure: Figure, name: str) -> Path:
    """Write NAME.png into the folder given on the command line, or gallery/; return its path."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path)
    plt.close(figure)
    return path
