"""Tables: what a row says follows from the record, whatever the record holds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from trustml.contracts import Cost, Record, Score
from trustml.reports.table import render, verdict
from trustml.reports.tables import WIDTH, apart, console

FAR = {"l0": 51, "l1": 3.51, "l2": 0.54, "linf": 0.1}
THREAT = {"norm": "linf", "epsilon": 0.1, "target": "none", "whole_box": False}


def _record(plugin: str = "pgd", robust: float = 0.3, **changes: Any) -> Record:
    scores = {
        "clean accuracy": Score(0.9, 0.88, 0.92, "higher"),
        "robust accuracy": Score(robust, robust - 0.02, robust + 0.02, "higher"),
        "attack success": Score(0.6, 0.55, 0.65, "lower"),
        **{f"median {norm}": Score(far, 0, 9, "higher") for norm, far in FAR.items()},
    }  # fmt: skip
    kind = "union" if plugin == "all" else "attack"
    facts: dict[str, Any] = dict(
        case=f"mlp-linf-0.1-{plugin}", kind=kind, plugin=plugin, options={"steps": 40},
        model="mlp:hidden=[256],epochs=3", weights="", data="digits:test=0.3", data_hash="",
        seed=0, threat=THREAT, scores=scores, cost=Cost(1.5, 28.4, 26.1, 28.4), place={},
        status="done",
    )  # fmt: skip
    return Record(**{**facts, **changes})


def _printed(records: list[Record], capsys: pytest.CaptureFixture[str]) -> str:
    screen = console()
    for part in render(records):
        screen.print(part)
    return capsys.readouterr().out


def _row(text: str, name: str) -> list[str]:
    return next(line for line in text.splitlines() if line.strip().startswith(name)).split()


def test_a_row_holds_the_record_s_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed([_record("noise"), _record(), _record("all")], capsys)
    assert _row(text, "pgd") == [
        "pgd", "90.0", "30.0", "(28.0–32.0)", "60.0", "51", "3.51", "0.54", "0.1", "28+26", "1.50",
    ]  # fmt: skip
    assert "noise of the same budget" in text
    assert "all attacks together" in text
    assert "mlp on digits, linf ≤ 0.1" in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_what_was_not_done_says_why_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A note on every attack is one of the model; a note on one names it."""
    note = ("weights from w.pt",)
    rows = [
        _record("noise", notes=note),
        _record(status="failed", reason="it broke", scores={}, notes=note),
        _record("fgsm", status="skipped", reason="no gradient", scores={}, notes=note),
        _record("all", notes=("without pgd",)),
    ]  # fmt: skip
    text = " ".join(_printed(rows, capsys).split())
    assert "failed: pgd: it broke" in text
    assert "skipped: fgsm: no gradient" in text
    assert text.count("weights from w.pt") == 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_stopped_group_has_no_verdict(capsys: pytest.CaptureFixture[str], count: int) -> None:
    """One row alone, as a stop after the first case leaves it, is a table too."""
    text = " ".join(_printed([_record("noise"), _record()][:count], capsys).split())
    assert "Verdict: none yet, the run was stopped before all attacks on mlp were finished." in text
    assert "remain" not in text


def test_nothing_to_print_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed([], capsys) == ""


@pytest.mark.parametrize(
    ("robust", "said"),
    [
        (0.1, "Do not rely on it"),
        (0.6, "withstands these attacks in part"),
        (0.89, "hardly move it"),
    ],
)
def test_the_verdict_is_in_plain_words(robust: float, said: str) -> None:
    """Against a clean accuracy of 90 %: below half of it, between, above nine tenths of it."""
    sentence = verdict([_record("all", robust)], "mlp")
    assert "mlp reads 90.0 % of digits rightly; when every entry may move by up to 0.1" in sentence
    assert f"{100 * robust:.1f} % remain" in sentence
    assert said in sentence


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        ("l2", "an input may move by up to 0.1 in L2"),
        ("l1", "an input may move by up to 0.1 in L1"),
        ("l0", "up to 0.1 entries may change"),
    ],
)
def test_the_verdict_names_the_threat(norm: str, said: str) -> None:
    assert said in verdict([_record("all", threat={**THREAT, "norm": norm})], "mlp")


def test_the_verdict_of_nothing_finished() -> None:
    last = _record("all", status="skipped", scores={}, reason="no attack was finished")
    assert verdict([last], "mlp") == "Verdict: mlp was not examined: no attack was finished."


def test_rows_and_models_of_one_name_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """By the options that differ, and by no others; a name alone stays bare."""
    other = "mlp:hidden=[16],epochs=3"
    rows = [_record("noise"), _record(), _record(options={"steps": 5}), _record("all")]
    text = _printed([*rows, *(replace(row, model=other) for row in rows)], capsys)
    assert _row(text, "pgd:steps=40")
    assert _row(text, "pgd:steps=5")
    assert "mlp:hidden=[256] on digits" in text
    assert "mlp:hidden=[16] on digits" in text
    assert "epochs" not in text


def test_all_of_one_attack_are_that_one(capsys: pytest.CaptureFixture[str]) -> None:
    """As with --curve, which puts no noise in front: the row is not said twice."""
    text = _printed([_record(), _record("all")], capsys)
    assert text.count("30.0 (28.0–32.0)") == 1
    assert "all attacks together" not in text
    assert "30.0 % remain" in text


def test_options_that_set_apart() -> None:
    assert apart([("a", {"x": 1}), ("b", {"x": 2})]) == ["a", "b"]
    assert apart([("a", {"x": 1, "y": (1, 2)}), ("a", {"x": 1, "y": (3,)})]) == [
        "a:y=[1,2]", "a:y=[3]",
    ]  # fmt: skip
    assert apart([("a", {"x": "p"}), ("a", {})]) == ["a:x=p", "a"]


def test_names_that_look_like_markup_are_names(capsys: pytest.CaptureFixture[str]) -> None:
    text = _printed([_record("[/x]:smile:"), _record("all")], capsys)
    assert _row(text, "[/x]:smile:")


def test_the_aim_is_in_the_title(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [_record(threat={**THREAT, "target": "3"}), _record("all")]
    assert "linf ≤ 0.1, aimed at 3" in _printed(rows, capsys)


@pytest.mark.parametrize(("own", "width"), [(40, 60), (80, 80), (200, 100)])
def test_the_screen_is_neither_too_narrow_nor_too_wide(
    monkeypatch: pytest.MonkeyPatch, own: int, width: int
) -> None:
    """Tables are made to fit 100 columns; narrower screens have them in parts."""
    made: Callable[..., Console] = Console

    def terminal(**facts: Any) -> Console:
        return made(**{"width": own, "force_terminal": True, **facts})

    monkeypatch.setattr("trustml.reports.tables.Console", terminal)
    assert console().width == width


def test_a_model_that_reads_nothing_rightly_withstands_nothing() -> None:
    """At 0 % there is neither a half nor nine tenths to be lost."""
    last = _record("all", robust=0.0)
    last = replace(last, scores={**last.scores, "clean accuracy": Score(0.0, 0, 0.1, "higher")})
    assert verdict([last], "mlp").endswith(
        "It reads nothing rightly, so that there is nothing to attack."
    )
