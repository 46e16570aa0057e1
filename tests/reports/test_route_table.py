"""The table and picture of routes and safeguards, from records that were made up."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image
from rich.console import Console
from rich.table import Table

from trustml.contracts import Cost, Record, Score
from trustml.reports.route_figure import route_figure
from trustml.reports.route_table import route_tables, rows_of, verdict
from trustml.reports.table import render

GUARDS = [
    "none", "abstain:rate=0.05,score=mcp", "abstain:rate=0.2,score=mcp", "golden_card:every=20",
]  # fmt: skip


def record(way: str, guard: str, values: dict[str, float], **others: Any) -> Record:
    """Return a finished record with scores that have an interval of one point each way."""
    scores = {name: Score(v, v - 0.01, v + 0.01, "lower") for name, v in values.items()}
    facts = {"safeguards": GUARDS, "low": 0.0, "high": 1.0}
    return Record(
        case=f"mlp-{way}-{guard}", kind="route", plugin=way,
        options={"safeguard": guard, "steps": 3},
        model="mlp:hidden=[8]", weights="", data="digits", data_hash="", seed=0, threat=facts,
        scores=scores, cost=Cost(), place={}, status="done", **others,
    )  # fmt: skip


def row(static: float, adaptive: float, **others: float) -> dict[str, float]:
    always = {"clean accuracy change": -0.012, "review per 1000": 55.0, "latency p50": 0.5}
    return {"success static": static, "success adaptive": adaptive, **always, **others}


RECORDS = [
    record("gain_drift", GUARDS[0], row(0.6, 0.6)),
    record("gain_drift", GUARDS[1], row(0.3, 0.45), notes=("adaptive: so and so",)),
    record("gain_drift", GUARDS[2], row(0.2, 0.25)),
    record("gain_drift", GUARDS[3], row(0.1, 0.1, **{"delay adaptive at 5 %": 12.0})),
    record("strokes", GUARDS[0], row(0.4, 0.4)),
    record("strokes", GUARDS[1], row(0.4, 0.5)),
]


def shown(records: list[Record]) -> str:
    """Return what is printed, 100 columns wide."""
    screen = Console(width=100, file=None, record=True, highlight=False, markup=False)
    with screen.capture() as printed:
        for part in render(records):
            screen.print(part)
    return printed.get()


def test_the_table_says_what_the_records_say() -> None:
    text = shown(RECORDS)
    assert max(map(len, text.splitlines())) <= 100
    for words in ("60.0", "45.0 (44–46)", "-1.2", "golden_card", "12", "55", "0.5"):
        assert words in text
    assert "abstain:rate=0.2" in text, "two of a name are told apart"
    assert "adaptive: so and so" in text
    assert any(isinstance(part, Table) for part in route_tables(RECORDS, "mlp", "digits"))


def test_the_verdict_names_what_leaves_least_and_what_nothing_lowers() -> None:
    text = verdict(rows_of(RECORDS))
    assert "gain_drift 60.0 %, with golden_card 10.0 %" in text
    assert "strokes 40.0 %, which no safeguard here lowers" in text


def test_a_row_that_failed_is_there_with_its_reason() -> None:
    one = record("strokes", "none", {})
    failed = Record(**{**{f: getattr(one, f) for f in one.__slots__}, "status": "skipped",
                       "reason": "needs images"})  # fmt: skip
    text = shown([failed])
    assert "skipped" in text
    assert "strokes: not examined (needs images)" in text


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1]])
def test_the_picture_is_a_picture_that_says_what_it_shows(records: list[Record]) -> None:
    image = Image.open(BytesIO(route_figure(records)))
    assert image.width > 300
    assert "routes and safeguards" in image.info["Description"]
