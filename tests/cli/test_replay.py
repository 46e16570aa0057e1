"""`trustml replay` says what is found now where that is something else than then."""

import json

import pytest
from click.testing import CliRunner

from trustml.audit.findings import Finding
from trustml.audit.replaying import Replay
from trustml.cli import auditing
from trustml.cli.main import cli
from trustml.contracts import Score


def test_a_new_accusation_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is the same, the verdict and the class are not: exit code 1."""
    number = Score(0.1, 0.1, 0.1, "lower")
    then = Finding("backdoor", "backdoor", "T", "passed", "p value", number, "c", ("b",), "R")
    now = Finding("backdoor", "backdoor", "T", "high", "p value", number, "c", ("b",), "R")
    found = Replay(then, number, now, (None, 3))
    monkeypatch.setattr(auditing, "replay", lambda *words: found)
    ended = CliRunner().invoke(cli, ["replay", "audit#F-001"])
    assert ended.exit_code == 1
    assert "0.1 now: not reproduced" in ended.output
    assert "Its severity is high now." in ended.output
    assert "Accused of a backdoor: none then, class 3 now." in ended.output
    told = json.loads(CliRunner().invoke(cli, ["replay", "audit#F-001", "--json"]).output)
    assert (told["severity"], told["accused"], told["worse"]) == ("high", [None, 3], True)
