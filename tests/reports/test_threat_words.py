"""Threats in words: what may change is named with its budget, in the units of a reader."""

from pathlib import Path
from typing import get_args

import pytest
from rich.table import Table

from trustml.benchmarks import harness
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Measure
from trustml.measures.spatial import DEGREES
from trustml.reports.table import render, verdict
from trustml.reports.threat_words import allowed, distance_heads


def _said(norm: str, epsilon: float, *shape: int) -> str:
    return allowed({"norm": norm, "epsilon": epsilon, **({"shape": shape} if shape else {})})


@pytest.mark.parametrize(
    ("norm", "epsilon", "shape", "words"),
    [
        # Turns of ±30° and shifts by a tenth of 28, in whole pixels; epsilon scales both.
        ("spatial", 1.0, (1, 28, 28), "a picture may be turned by up to 30° and moved by up to 3 "
         "pixels"),
        ("spatial", 0.5, (1, 8, 8), "turned by up to 15° and moved by up to 0.5 pixels"),
        ("spatial", 1.0, (1, 8, 8), "turned by up to 30° and moved by up to 1 pixel"),
        ("spatial", 1.0, (1, 20, 40), "moved by up to 2 pixels down or up and 4 pixels to a side"),
        ("spatial", 1.0, (), "turned by up to 30° and moved by up to 10 % of each side"),
        # A twentieth of 64 pixels is 3.2: three whole ones; 0.29 of 100 are 29, not 28.
        ("patch", 0.05, (1, 8, 8), "one rectangle of up to 5 % of the picture (3 of 64 pixels) may "
         "show anything"),
        ("patch", 0.29, (3, 10, 10), "29 % of the picture (29 of 100 pixels)"),
        ("patch", 0.05, (), "one rectangle of up to 5 % of the picture may show anything"),
        ("structure", 0.1, (1, 8, 8), "likeness to the original (SSIM) is 0.9 or more"),
        ("colour", 5.0, (3, 8, 8), "the colour of each pixel may change by up to 5 (CIEDE2000"),
        ("flow", 0.5, (1, 8, 8), "each pixel may show what lies up to 0.5 pixels away"),
        ("wasserstein", 0.1, (1, 8, 8), "by up to 0.1 pixels on average over all of it"),
    ],
)  # fmt: skip
def test_what_may_change_stands_there_with_its_budget(
    norm: str, epsilon: float, shape: tuple[int, ...], words: str
) -> None:
    assert words in _said(norm, epsilon, *shape)


@pytest.mark.parametrize("norm", get_args(Measure))
def test_every_measure_has_words_and_a_distance_of_its_own(norm: str) -> None:
    """A table under a measure shows the median in that measure, and says what it counts."""
    assert "{}" not in _said(norm, 0.1, 1, 8, 8)
    heads, said = distance_heads(norm)
    assert norm in heads
    assert len(heads) == 4
    assert norm in ("l0", "l1", "l2", "linf") or f"; {norm}: " in said


def test_a_run_shows_its_measure_s_own_distance(tmp_path: Path) -> None:
    """In the table stands the record's median in the measure; in the verdict, the pixels of 8×8."""
    plan = Plan(("logistic:epochs=1",), ("spatial",), norms=("spatial",), limit=6, indicators=False)
    records = list(harness.start(plan, tmp_path / "run"))
    table = next(part for part in render(records) if isinstance(part, Table))
    heads = [str(column.header) for column in table.columns]
    cells = list(table.columns[heads.index("spatial")].cells)
    assert cells == [f"{r.scores['median spatial'].value:.2g}" for r in records]
    said = verdict(records, "logistic")
    assert f"turned by up to {DEGREES:g}° and moved by up to 1 pixel," in said
    assert list(verify(tmp_path / "run", "cpu")) == records


def test_a_run_that_did_not_note_the_shape_is_gone_on_with(tmp_path: Path) -> None:
    """Records of before say less of their threat, and count among all attacks together still."""
    plan = Plan(("logistic:epochs=1",), ("spatial",), norms=("spatial",), limit=6, indicators=False)
    made = list(harness.start(plan, tmp_path / "run"))
    path = tmp_path / "run" / harness.RECORDS
    lines = path.read_text().replace(', "shape": [1, 8, 8]', "").splitlines(keepends=True)
    assert "shape" not in "".join(lines)
    path.write_text("".join(lines[:-1]))
    again = list(harness.resume(tmp_path / "run"))
    assert again[-1].options == made[-1].options
    assert again[-1].scores == made[-1].scores
