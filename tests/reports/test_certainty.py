"""Reliability, certainty sheet and accuracies: what is drawn is what was given."""

import math

import pytest
import torch

from trustml.calibration import reliability
from trustml.contracts import Score
from trustml.errors import BadInput, NotApplicable
from trustml.reports import accuracies_figure as accuracies
from trustml.reports import certainty_sheet as sheet
from trustml.reports import reliability_figure as reliable

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def figures(monkeypatch):
    """Let the functions return the figure itself instead of its PNG."""
    for module in (accuracies, sheet, reliable):
        monkeypatch.setattr(module, "png", lambda figure: figure)


def answers(count: int = 200):
    generator = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(count, 4, generator=generator)
    return z, torch.multinomial((z / 2).softmax(1), 1, generator=generator)[:, 0]


def test_reliability_bars_reach_the_accuracy_and_what_was_promised(figures) -> None:
    z, y = answers()
    axis = reliable.reliability_figure({"mine": z, "halved": z / 2}, y, bins=10).axes[0]
    known = reliability(z, y, bins=10)
    full = known.counts > 0
    kept, more, missing = axis.containers
    for rows, wanted in (
        ((kept, more), 100 * known.accuracy[full]),
        ((kept, missing), 100 * known.confidence[full]),
    ):
        tops = torch.tensor([[bar.get_height() for bar in row] for row in rows]).sum(0)
        low = torch.minimum(
            torch.tensor(100 * known.accuracy[full]), torch.tensor(100 * known.confidence[full])
        )
        assert torch.allclose(tops.double(), torch.maximum(low, torch.tensor(wanted)), atol=1e-3)
    assert "ECE" in axis.get_title()


def test_the_sheet_has_the_most_and_the_least_certain_with_their_histograms(figures) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(20, 1, 6, 6, generator=generator)
    suspicion = torch.randperm(20, generator=generator).double()
    draws = torch.rand(7, 20, 4, generator=generator).softmax(-1)
    y = draws.mean(0).argmax(1)
    y[suspicion == 19] = (y[suspicion == 19] + 1) % 4
    figure = sheet.certainty_sheet(x, suspicion, draws, y, tuple("abcd"), count=3)
    axes = figure.axes
    assert len(axes) == 12
    for start, ranks in ((0, (0, 1, 2)), (6, (19, 18, 17))):
        for column, rank in enumerate(ranks):
            row = int((suspicion == rank).nonzero())
            shown = axes[start + column].images[0].get_array()
            low, high = x.aminmax()
            assert torch.allclose(torch.tensor(shown).float(), (x[row, 0] - low) / (high - low))
            bars = axes[start + 3 + column].patches
            heights = torch.tensor([bar.get_height() for bar in bars])
            assert torch.allclose(heights.float(), draws[:, row].mean(0), atol=1e-6)
            votes = int((draws[:, row].argmax(1) == draws[:, row].mean(0).argmax()).sum())
            assert f"({votes} of 7)" in axes[start + column].get_title()
    assert "\nis " in axes[6].get_title()
    assert "\nis " not in axes[0].get_title()


def test_accuracies_are_bars_with_their_intervals(figures) -> None:
    groups = {
        "inside": {"test": Score(0.9, 0.8, 0.95, "higher")},
        "outside": {"inverted": Score(0.1, 0.05, 0.3, "higher")},
    }
    axis = accuracies.accuracies_figure(groups, chance=0.25).axes[0]
    bars = [bar for bar in axis.patches if bar.get_width() == 0.7]
    assert [bar.get_height() for bar in bars] == pytest.approx([90, 10])
    assert bars[0].get_facecolor() != bars[1].get_facecolor()
    labels = {text.get_text() for text in axis.get_legend().get_texts()}
    assert labels == {"inside", "outside", "chance"}


def test_they_are_pngs() -> None:
    z, y = answers()
    x = torch.rand(200, 3, 5, 5)
    score = Score(0.5, 0.4, 0.6, "higher")
    for picture in (
        reliable.reliability_figure({"one": z}, y, "title"),
        sheet.certainty_sheet(x, z[:, 0], z.softmax(1), y, tuple("abcd")),
        sheet.certainty_sheet(x[:2], z[:2, 0], z[:2].softmax(1), y[:2], tuple("abcd")),
        accuracies.accuracies_figure({"inside": {"test": score}}),
    ):
        assert picture[:8] == PNG


def test_bad_input_is_refused() -> None:
    z, y = answers(10)
    x = torch.rand(10, 1, 5, 5)
    with pytest.raises(NotApplicable, match="no pictures"):
        sheet.certainty_sheet(x[:, 0, 0], z[:, 0], z.softmax(1), y, tuple("abcd"))
    for parts in (
        (x, z[:9, 0], z.softmax(1), y, tuple("abcd")),
        (x, z[:, 0], z.softmax(1), y, tuple("abc")),
        (x[:0], z[:0, 0], z[:0], y[:0], tuple("abcd")),
    ):
        with pytest.raises(BadInput, match="do not fit together"):
            sheet.certainty_sheet(*parts)
    with pytest.raises(BadInput, match="NaN"):
        sheet.certainty_sheet(x, z[:, 0] * math.nan, z.softmax(1), y, tuple("abcd"))
    with pytest.raises(BadInput, match="no answers"):
        reliable.reliability_figure({}, y)
    with pytest.raises(BadInput, match="no accuracy"):
        accuracies.accuracies_figure({"inside": {}})
