"""What a replay calls reproduced and worse: numbers by their interval, accusations by verdict."""

from dataclasses import replace
from pathlib import Path

import pytest

from trustml.audit import replaying
from trustml.audit.findings import Finding
from trustml.audit.replaying import Replay, replay
from trustml.benchmarks.plan import Plan
from trustml.contracts import Cost, Record, Score
from trustml.errors import MethodFailed

RANK = Score(0.1, 0.1, 0.1, "lower")
HONEST = Finding(
    "backdoor", "backdoor", "T", "passed", "p value", RANK, "mlp-neural_cleanse-of-none",
    ("backdoor",), "R",
)  # fmt: skip
GUILTY = replace(HONEST, severity="high")


@pytest.mark.parametrize(
    ("then", "now", "accused", "reproduced", "worse"),
    [
        (HONEST, HONEST, (None, None), True, False),
        (HONEST, GUILTY, (None, 0), False, True),
        (GUILTY, GUILTY, (7, 7), True, False),
        (GUILTY, GUILTY, (7, 3), False, True),
        (GUILTY, HONEST, (7, None), False, False),
    ],
)
def test_an_accusation_that_was_not_there_is_worse(
    then: Finding, now: Finding, accused: tuple[int | None, int | None], reproduced: bool,
    worse: bool,
) -> None:  # fmt: skip
    """Among 9 honest models p is never below 0.1: the number is the same, whatever is found."""
    found = Replay(then, RANK, now, accused)
    assert (found.reproduced, found.worse) == (reproduced, worse)


def test_signs_of_masked_gradients_that_appear_are_worse() -> None:
    """Their number is the robust accuracy, which masking makes better."""
    number = Score(0.4, 0.3, 0.5, "higher")
    then = replace(HONEST, name="masked gradients", section="robustness", score=number)
    found = Replay(then, Score(0.45, 0.35, 0.55, "higher"), replace(then, severity="high"))
    assert (found.reproduced, found.worse) == (False, True)


def test_a_number_is_held_against_its_interval_alone() -> None:
    """Within the interval it is no worse, though another band begins at its lower end."""
    then = replace(HONEST, name="noise", severity="low", score=Score(0.9, 0.8, 0.95, "higher"))
    found = Replay(then, Score(0.85, 0.7, 0.9, "higher"), replace(then, severity="medium"))
    assert (found.reproduced, found.worse) == (True, False)


def test_a_number_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without gradients has maps of zeros, of which no stability is measured."""
    note = "stability under attack: every map is zero everywhere"
    score = Score(0.9, 0.8, 1.0, "higher")
    then = Record(
        "gradient", "attribution", "gradient", {}, "mlp", "w", "d", "h", 0, {},
        {"stability under attack": score}, Cost(), {}, "done",
    )  # fmt: skip
    finding = Finding(
        "stable under attack", "explaining", "T", "passed", "stability under attack", score,
        "gradient", ("explanation",), "R", "F-001",
    )  # fmt: skip
    monkeypatch.setattr(replaying, "findings_of", lambda folder: ([finding], {}))
    monkeypatch.setattr(replaying, "read_plan", lambda run: Plan(("mlp",)))
    monkeypatch.setattr(replaying.harness, "finished", lambda run: [then])
    now = replace(then, scores={}, notes=(note,))
    monkeypatch.setattr(replaying.harness, "start", lambda plan, run: [now])
    with pytest.raises(MethodFailed, match=f"no stability under attack now .{note}"):
        replay(tmp_path, "F-001")
