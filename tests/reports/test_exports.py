"""An audit for other programs: read back by their own readers, it says what the findings say."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from trustml.audit.auditing import FINDINGS
from trustml.audit.findings import Finding, numbered
from trustml.audit.preparing import AUDIT
from trustml.audit.replaying import Replay, named
from trustml.benchmarks.plan import Plan
from trustml.cli.main import cli
from trustml.contracts import Score
from trustml.errors import BadInput, UnknownName
from trustml.reports.audit_page import grades, listed, verdict
from trustml.reports.exports import export

SCORE = Score(0.5, 0.4, 0.6, "higher")
EVIL = "<b>&\"'"


def _finding(section: str, severity: str, name: str = "rule one") -> Finding:
    return Finding(
        name, section, f"It fails {EVIL}", severity, "robust accuracy", SCORE, "mlp-all",  # type: ignore[arg-type]
        ("white-box evasion",), "Mend it",
    )  # fmt: skip


FOUND = numbered(
    [_finding("robustness", "high"), _finding("robustness", "passed", "other"),
     _finding("doubt", "medium")]
)  # fmt: skip
FACTS = {
    "schema": 1,
    "fingerprint": {"answers": "logits"},
    "sections": {
        "robustness": {"grade": "high", "reason": "", "failed": False},
        "doubt": {"grade": "medium", "reason": "", "failed": False},
        "stealing": {"grade": "failed", "reason": "server down", "failed": True},
        "explaining": {"grade": "not examined", "reason": "no gradients", "failed": False},
    },
    "findings": [finding.to_json() for finding in FOUND],
}


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """Return the folder of an audit that was never run: its files are made up."""
    base = json.loads(Plan(("mlp",)).to_json())
    facts = {"schema": 1, "depth": "quick", "base": base}
    (tmp_path / AUDIT).write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / FINDINGS).write_text(json.dumps(FACTS), encoding="utf-8")
    return tmp_path


def test_junit_tells_failures_errors_and_what_was_skipped(audit: Path) -> None:
    """High fails, medium does not; a section that broke is an error, never a pass."""
    root = ElementTree.parse(export(audit, "junit", "high")).getroot()
    counts = {
        suite.get("name"): [
            int(suite.get(name, "")) for name in ("tests", "failures", "errors", "skipped")
        ]
        for suite in root
    }
    assert counts == {
        "robustness": [2, 1, 0, 0], "doubt": [1, 0, 0, 0], "stealing": [1, 0, 1, 0],
        "explaining": [1, 0, 0, 1],
    }  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == f"It fails {EVIL}"
    stricter = ElementTree.parse(export(audit, "junit", "medium")).getroot()
    assert len(stricter.findall(".//failure")) == 2


def test_what_is_accepted_is_skipped_with_the_reason(audit: Path) -> None:
    """It fails no build, and nobody takes it for a pass; in SARIF it is suppressed."""
    known = {**FACTS, "accepted": ["robustness/rule-one"]}
    (audit / FINDINGS).write_text(json.dumps(known), encoding="utf-8")
    root = ElementTree.parse(export(audit, "junit", "medium")).getroot()
    suite = next(suite for suite in root if suite.get("name") == "robustness")
    counts = [int(suite.get(n, "")) for n in ("tests", "failures", "errors", "skipped")]
    assert counts == [2, 0, 0, 1]
    assert len(root.findall(".//failure")) == 1
    skipped = suite.find(".//skipped")
    assert skipped is not None
    assert str(skipped.get("message")).startswith("accepted by --accept robustness/rule-one: high")
    log = json.loads(export(audit, "sarif", "high").read_text(encoding="utf-8"))
    suppressed = [one["suppressions"] for one in log["runs"][0]["results"]]
    assert suppressed[0][0]["status"] == "accepted"
    assert suppressed[1:] == [[], []]


def test_sarif_has_what_its_readers_need(audit: Path) -> None:
    """Version 2.1.0: each result names a rule of the driver, a level, a message, a fingerprint."""
    log = json.loads(export(audit, "sarif", "high").read_text(encoding="utf-8"))
    assert log["version"] == "2.1.0"
    run = log["runs"][0]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in run["results"]} == rules
    levels = [(result["kind"], result["level"]) for result in run["results"]]
    assert levels == [("fail", "error"), ("fail", "warning"), ("pass", "none")]
    prints = [tuple(result["partialFingerprints"].values()) for result in run["results"]]
    assert len(set(prints)) == len(prints)
    assert run["invocations"][0]["executionSuccessful"] is False
    said = [note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"]]
    assert said == ["stealing: server down", "explaining: no gradients"]


def test_the_regressions_are_python_that_names_each_finding(audit: Path) -> None:
    text = export(audit, "tests", "high").read_text(encoding="utf-8")
    compile(text, "test_trust.py", "exec")
    assert all(finding.id in text for finding in FOUND)
    assert str(audit) in text


def test_the_tables_say_what_is_not_known() -> None:
    assert [str(cell) for cell in grades(FACTS).columns[1].cells] == [
        "high", "medium", "failed", "not examined",
    ]  # fmt: skip
    assert list(listed(FOUND).columns[1].cells) == ["high", "medium", "passed"]
    said = verdict(FOUND, FACTS)
    assert "Worst finding: high (1 high, 1 medium, 1 passed)" in said
    assert "stealing, explaining" in said


@pytest.mark.parametrize(
    ("value", "reproduced", "worse"),
    [(0.5, True, False), (0.39, False, True), (0.61, False, False)],
)
def test_a_replay_is_worse_beyond_the_bad_end_only(
    value: float, reproduced: bool, worse: bool
) -> None:
    """Higher is better here: below 0.4 it is worse; turned round, above 0.6."""
    found = Replay(FOUND[0], Score(value, 0.0, 1.0, "higher"))
    assert (found.reproduced, found.worse) == (reproduced, worse)
    turned = replace(FOUND[0], score=replace(SCORE, better="lower"))
    mirrored = Replay(turned, Score(1 - value, 0.0, 1.0, "lower"))
    assert (mirrored.reproduced, mirrored.worse) == (reproduced, worse)


def test_what_cannot_be_is_refused(audit: Path, tmp_path: Path) -> None:
    assert named("some/audit#F-012") == (Path("some/audit"), "F-012")
    for wrong in ("audit", "audit#12", "#", "audit#F-1"):
        with pytest.raises(BadInput, match="F-001"):
            named(wrong)
    with pytest.raises(UnknownName, match="junit"):
        export(audit, "junitt", "high")
    invoke = CliRunner().invoke
    with pytest.raises(UnknownName, match="critical"):
        invoke(
            cli, ["report", str(audit), "--to", "junit", "--fail-on", "bad"], catch_exceptions=False
        )
    with pytest.raises(BadInput, match="holds no"):
        invoke(cli, ["replay", f"{tmp_path / 'none'}#F-001"], catch_exceptions=False)
    with pytest.raises(BadInput, match="no model to audit"):
        invoke(cli, ["audit"], catch_exceptions=False)
    (audit / FINDINGS).unlink()
    with pytest.raises(BadInput, match="not complete"):
        export(audit, "sarif", "high")
    (audit / AUDIT).write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="not an audit"):
        export(audit, "sarif", "high")
