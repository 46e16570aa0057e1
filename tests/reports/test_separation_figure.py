"""Figures of detectors: what is drawn is what is measured; bad input is refused."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trustml.errors import BadInput
from trustml.reports import separation_figure as module
from trustml.reports.separation_figure import histogram_figure, risk_figure, separation_figure
from trustml.separation import aurc, auroc, average_precision

PNG = b"\x89PNG\r\n\x1a\n"


def drawn(count: int = 3, ties: bool = False) -> dict[str, tuple[Tensor, Tensor]]:
    """Return detectors of falling skill; with ties, of few values."""
    generator = torch.Generator().manual_seed(0)
    sides = {}
    for number in range(count):
        inside = torch.randn(80, generator=generator)
        outside = torch.randn(60, generator=generator) + 2 - 0.2 * number
        sides[f"detector {number}"] = (
            ((2 * inside).round(), (2 * outside).round()) if ties else (inside, outside)
        )
    return sides


@pytest.fixture
def figures(monkeypatch):
    """Let the functions return the figure itself instead of its PNG."""
    monkeypatch.setattr(module, "png", lambda figure: figure)


def test_they_are_pngs() -> None:
    wrong = torch.arange(140) >= 80
    flat = {name: torch.cat(sides) for name, sides in drawn().items()}
    for picture in (
        separation_figure(drawn(12), title="twelve"),
        histogram_figure(drawn(4), ("right", "wrong")),
        risk_figure(flat, wrong, "errors"),
    ):
        assert picture[:8] == PNG
        assert len(picture) > 5000


@pytest.mark.parametrize("ties", [False, True])
def test_the_areas_under_the_drawn_curves_are_the_scores(figures, ties: bool) -> None:
    """ROC by trapezoids (exact with ties); average precision by the drawn steps."""
    sides = drawn(1, ties)
    inside, outside = sides["detector 0"]
    roc, odd, ordinary = separation_figure(sides).axes
    x, y = roc.lines[0].get_data()
    assert np.trapezoid(y, x) / 1e4 == pytest.approx(auroc(inside, outside).value)
    for axis, positive in ((odd, "odd"), (ordinary, "ordinary")):
        x, y = axis.lines[0].get_data()
        area = (np.diff(x) * y[1:]).sum() / 1e4
        wanted = average_precision(inside, outside, positive=positive).value
        assert area == pytest.approx(wanted)
        assert axis.lines[0].get_drawstyle() == "steps-pre"


def test_the_best_have_colours_and_the_rest_is_counted(figures) -> None:
    figure = separation_figure(drawn(11), title="eleven")
    assert figure.get_suptitle() == "eleven (3 more in grey)"
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(labels) == 8
    values = [float(label.split()[-1]) for label in labels]
    assert values == sorted(values, reverse=True)


def test_risk_ends_at_the_error_rate_and_its_area_is_the_aurc(figures) -> None:
    """Without ties the mean of the drawn risks, the doubled first point aside, is the AURC."""
    wrong = torch.rand(200, generator=torch.Generator().manual_seed(1)) < 0.2
    suspicion = torch.randn(200, generator=torch.Generator().manual_seed(2)) + wrong
    axis = risk_figure({"one": suspicion}, wrong).axes[0]
    x, y = axis.lines[0].get_data()
    assert (x[0], x[-1]) == (0, 100)
    assert y[-1] == pytest.approx(100 * float(wrong.double().mean()))
    assert y[1:].mean() / 100 == pytest.approx(aurc(suspicion, wrong).value)
    best = axis.lines[1].get_ydata()
    assert (best <= y[1:] + 1e-9).all()


def test_histograms_hold_every_sample_also_infinite_ones(figures) -> None:
    sides = {"one": (torch.tensor([0.0, 1, 2, -math.inf]), torch.tensor([3.0, math.inf]))}
    (axis,) = histogram_figure(sides).axes
    for patch in axis.patches:
        assert patch.get_data().values.sum() == pytest.approx(100)
    (axis,) = histogram_figure({"flat": (torch.zeros(5), torch.zeros(3))}).axes
    assert axis.patches[0].get_data().values.sum() == pytest.approx(100)


def test_nothing_to_draw_is_refused() -> None:
    for draw in (separation_figure, histogram_figure):
        with pytest.raises(BadInput, match="no detector"):
            draw({})
        with pytest.raises(BadInput, match="no outside sample"):
            draw({"one": (torch.zeros(3), torch.zeros(0))})
        with pytest.raises(BadInput, match="NaN"):
            draw({"one": (torch.zeros(3), torch.full((2,), math.nan))})
    with pytest.raises(BadInput, match="no detector"):
        risk_figure({}, torch.zeros(3).bool())
