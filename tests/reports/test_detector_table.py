"""Tables of detectors: they fit the screen, and say what the records say."""

from dataclasses import replace
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


def test_none_is_the_surest_where_none_is_better_than_chance() -> None:
    """A blind score has an AUROC of 50 %: the best of two that are worse is nothing to rely on."""
    both = verdict([_record("mcp", 0.02), _record("knn", 0.05)], ["mcp", "knn"])
    assert both == (
        "Verdict: none of the 2 detectors is better than chance on every set: the best, knn, has "
        "an AUROC of 5.0 % on noise."
    )
    one = verdict([_record("mcp", 0.5)], ["mcp"])
    assert one == "Verdict: mcp is not better than chance on noise: it has an AUROC of 50.0 %."
    hardly = verdict([_record("mcp", 0.51), _record("knn", 0.4)], ["mcp", "knn"])
    assert (
        "mcp is the surest: AUROC 51.0 % or more on each of 5 sets, which may be chance." in hardly
    )


def test_one_detector_is_not_the_surest_of_several() -> None:
    said = verdict([_record("mcp", 0.6)], ["mcp"])
    assert said.startswith("Verdict: mcp has an AUROC of 60.0 % or more on each of 5 sets. ")


def test_an_interval_lies_within_the_scale(capsys: pytest.CaptureFixture[str]) -> None:
    """Of one wrong answer, found first: Beta(2, 1) begins at 22.4 %; not 100.0 ± 38.8."""
    row = _record("mcp", 0.6)
    scores = {**row.scores, "errors: auroc": Score(1.0, 0.05**0.5, 1.0, "higher")}
    scores["errors: aurc"] = Score(0.0123, 0.0101, 0.0145, "lower")
    text = _printed([replace(row, scores=scores)], capsys)
    assert "100.0 (22–100)" in text
    assert "1.23 (1–1.5)" in text  # narrow: tenths, rounded outwards
    assert "±" not in text


def test_the_worst_of_all_stands_first(capsys: pytest.CaptureFixture[str]) -> None:
    """However many sets there are, and however narrow the screen, it is the number to see."""
    lines = _printed([_record("mcp", 0.6)], capsys).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("cnn: outsiders"))
    row = next(line for line in lines[start:] if line.startswith(" mcp"))
    assert row.split()[1] == "60.0"


def test_pooled_rows_say_how_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    row = _record("mcp", 0.6, kind="pooled", options={"of": ["a", "b", "c"]})
    assert "mean of 3 seeds" in _printed([row], capsys)
