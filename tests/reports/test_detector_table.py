"""Tables of detectors: they fit the screen, and say what the records say."""

from typing import Any

import pytest

from trustml.contracts import Cost, Record, Score
from trustml.reports.detector_table import verdict
from trustml.reports.table import render
from trustml.reports.tables import WIDTH, console

SETS = ("noise", "fashion_mnist", "knockoff:inputs=shifted,snapshots=1", "pgd linf 0.1", "rotated")
METRICS = ("auroc", "fpr95_positive_in", "fpr95_positive_out", "stopped", "base rate")


def _score(value: float) -> Score:
    return Score(value, value - 0.02, value + 0.02, "higher")


def _record(name: str, worst: float, **changes: Any) -> Record:
    scores = {f"{one}: {metric}": _score(0.9) for one in SETS for metric in METRICS}
    scores |= {"noise: auroc": _score(worst), "noise: stopped": _score(0.4)}
    for metric in ("auroc", "aupr_error", "fpr95_positive_error", "aurc"):
        scores[f"errors: {metric}"] = _score(0.3)
    scores |= {"false alarms": _score(0.05), "worst auroc": _score(worst)}
    scores |= {"errors: base rate": _score(0.054), "aware linf 0.1: passed": _score(0.56)}
    facts: dict[str, Any] = dict(
        case=f"cnn-{name}", kind="detector", plugin=name, options={}, model="cnn", weights="",
        data="digits", data_hash="", seed=0, threat={"outside": list(SETS)}, scores=scores,
        cost=Cost(0.5), place={}, status="done",
    )  # fmt: skip
    return Record(**{**facts, **changes})


def _printed(records: list[Record], capsys: pytest.CaptureFixture[str]) -> str:
    screen = console()
    for part in render(records):
        screen.print(part)
    return capsys.readouterr().out


def test_every_name_and_figure_fits(capsys: pytest.CaptureFixture[str]) -> None:
    """The longest name of a detector, and of a set, beside five sets."""
    rows = [_record("local_intrinsic_dimension", 0.7), _record("mcp", 0.6)]
    text = _printed(rows, capsys)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    assert text.count("local_intrinsic_dimension") >= 4
    assert "inputs=shifted" in text


def test_both_conventions_of_fpr95_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed([_record("mcp", 0.6)], capsys)
    assert "FPR95 out: share of inside flagged when 95 % of the set are" in text
    assert "FPR95 in: share of the set accepted when 95 % of inside are" in text
    assert "AUPR of a blind score: 5.4 %" in text


def test_the_verdict_takes_the_best_of_the_worst() -> None:
    rows = [_record("mcp", 0.6), _record("knn", 0.8)]
    said = verdict(rows, ["mcp", "knn"])
    assert said.startswith("Verdict: knn is the surest: AUROC 80.0 % or more on each of 5 sets.")
    assert "its gate stops 40.0 % of noise, the hardest for it." in said
    assert said.endswith("An attack that knows it has 56.0 % misread and accepted.")


def test_pooled_rows_say_how_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    row = _record("mcp", 0.6, kind="pooled", options={"of": ["a", "b", "c"]})
    assert "mean of 3 seeds" in _printed([row], capsys)
