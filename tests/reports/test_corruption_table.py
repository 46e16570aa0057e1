"""Tables of corruptions: each fact once, and a column for what was asked for."""

from typing import Any

import pytest

from trustml.contracts import Cost, Record, Score
from trustml.reports.table import render
from trustml.reports.tables import console


def _record(plugin: str, baseline: str = "", **changes: Any) -> Record:
    scores = {f"accuracy at severity {n}": Score(1 - n / 10, 0, 1, "higher") for n in range(1, 6)}
    scores |= {"clean accuracy": Score(0.95, 0.9, 0.97, "higher")}
    scores |= {"corruption error": Score(0.3, 0.2, 0.4, "lower")}
    scores |= {"relative corruption error": Score(0.5, 0.4, 0.6, "lower")} if baseline else {}
    kind = "corruptions" if plugin == "all" else "corruption"
    facts: dict[str, Any] = dict(
        case=f"cnn-{plugin}", kind=kind, plugin=plugin, options={}, model="cnn", weights="",
        data="digits", data_hash="", seed=0, threat={"corruptions": ["fog"], "baseline": baseline},
        scores=scores, cost=Cost(0.5), place={}, status="done",
    )  # fmt: skip
    return Record(**{**facts, **changes})


def _printed(records: list[Record], capsys: pytest.CaptureFixture[str]) -> str:
    screen = console()
    for part in render(records):
        screen.print(part)
    return capsys.readouterr().out


def test_one_corruption_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """All of one are that one: no second row of the same numbers."""
    text = _printed([_record("fog"), _record("all")], capsys)
    assert text.count("30.0 (20.0–40.0)") == 1
    assert "all together" not in text
    assert "errs on 30.0 % under fog (95 % interval" in " ".join(text.split())
    assert "relative" not in text


def test_several_have_a_row_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    given = "logistic"
    text = _printed([_record("fog", given), _record("snow", given), _record("all", given)], capsys)
    assert text.count("30.0 (20.0–40.0)") == 3
    assert "all together" in text
    assert "under 2 corruptions" in text
    assert text.count("0.50 (0.40–0.60)") == 3


def test_one_that_failed_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Then there is nothing to sum up, and no verdict."""
    rows = [_record("fog", status="failed", scores={}, reason="it broke")]
    rows.append(_record("all", status="skipped", scores={}, reason="no corruption was finished"))
    text = _printed(rows, capsys)
    assert "failed: it broke" in text
    assert "Verdict: none: no corruption was finished." in text
