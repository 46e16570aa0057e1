"""Findings that a person has accepted: named so that the next audit knows them, shown, harmless."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from trustml.audit import agenda
from trustml.audit.accepting import RULES, accepted_by, deciding, name_of, read_accepted
from trustml.audit.findings import Finding
from trustml.audit.preparing import AUDIT
from trustml.audit.robustness import ROBUSTNESS
from trustml.cli.main import cli
from trustml.contracts import Score
from trustml.errors import BadInput, UnknownName


def _finding(section: str, name: str, case: str, severity: str = "high") -> Finding:
    score = Score(0.5, 0.4, 0.6, "higher")
    return Finding(name, section, "T", severity, "m", score, case, (), "Do.")  # type: ignore[arg-type]


WORST = _finding("robustness", "worst case", "onnx-linf-0.1-all", "critical")
DRIFT = _finding("physical", "route", "onnx-gain_drift-none")


def test_every_rule_of_every_section_can_be_accepted() -> None:
    """The names are those that the sections' source gives to findings."""
    source = "".join(
        path.read_text(encoding="utf-8") for path in Path(agenda.__file__).parent.glob("*.py")
    )
    written = set(re.findall(r'Finding\(\s*"([a-z ]+)",\s*"([a-z_]+)"', source))
    assert written == {(rule, section) for section, rules in RULES.items() for rule in rules}
    assert list(RULES) == [section.name for section in agenda.SECTIONS]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("robustness", "robustness"),
        ("worst-case", "robustness/worst-case"),
        ("robustness/worst case", "robustness/worst-case"),
        ("robustness/worst case/onnx-linf-0.1-all", "robustness/worst-case/onnx-linf-0.1-all"),
        ("backdoor", "backdoor"),
    ],
)
def test_a_name_is_a_section_a_rule_or_a_finding(given: str, name: str) -> None:
    """Fingerprints of SARIF have the rule's spaces."""
    assert read_accepted([given, given]) == (name,)


def test_names_that_are_none_are_refused_with_near_ones() -> None:
    with pytest.raises(UnknownName, match="did you mean 'robustness'"):
        read_accepted(["robustnes"])
    with pytest.raises(UnknownName, match="did you mean 'robustness/worst-case'"):
        read_accepted(["robustness/worstcase"])
    cases = {"physical": ["onnx-gain_drift-none", "onnx-lens_sticker-none"]}
    with pytest.raises(UnknownName, match="did you mean 'physical/route/onnx-gain_drift-none'"):
        read_accepted(["physical/route/onnx-gain_drift"], cases)
    assert read_accepted([name_of(DRIFT)], cases) == (name_of(DRIFT),)
    with pytest.raises(BadInput, match="in the next audit another finding"):
        read_accepted(["F-001"])


def test_what_is_accepted_decides_nothing() -> None:
    """By whole parts of its name only; what passed needs nobody's word."""
    assert accepted_by(WORST, ["doubt", "robustness"]) == "robustness"
    assert accepted_by(WORST, ["robustness/worst-case"]) == "robustness/worst-case"
    assert accepted_by(WORST, [name_of(WORST)]) == name_of(WORST)
    assert accepted_by(WORST, ["robust", "robustness/worst", f"{name_of(WORST)}-2"]) == ""
    assert accepted_by(_finding("doubt", "calibration", "c", "passed"), ["doubt"]) == ""
    assert deciding([WORST, DRIFT], "high", ["robustness"]) == [DRIFT]
    assert deciding([WORST, DRIFT], "critical", []) == [WORST]


def test_a_release_gate_knows_what_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    """Exit code 3 for a fooled model, 0 once that is accepted, in the audit and in what it writes.

    An undefended regression is fooled at a tenth of the range; the epsilon is the audit's own, and
    what is gone on with keeps it.
    """
    monkeypatch.setattr(agenda, "SECTIONS", (ROBUSTNESS,))
    home = tmp_path / "audit"
    words = ["audit", "logistic:epochs=3", "--depth", "quick", "--epsilon", "1/8"]
    failed = _run([*words, "--out", str(home), "--fail-on", "high"], 3)
    said = " ".join(failed.split())
    assert "--accept robustness/worst-case" in said
    assert "0.125 of its range" in said
    plan = json.loads((home / AUDIT).read_text())
    assert plan["base"]["epsilons"] == [0.125]
    begun = (home / AUDIT).stat().st_mtime
    again = _run(["audit", "--resume", str(home), "--fail-on", "high", "--accept", "robustness"], 0)
    assert "Accepted: F-001" in again
    assert json.loads((home / AUDIT).read_text())["accepted"] == ["robustness"]
    assert (home / AUDIT).stat().st_mtime == begun
    _run(["audit", "--resume", str(home), "--fail-on", "high"], 0)
    _run(["report", str(home), "--to", "junit"], 0)
    _run(["report", str(home), "--to", "sarif"], 0)
    assert "accepted by --accept robustness" in (home / "junit.xml").read_text()
    results = json.loads((home / "report.sarif").read_text())["runs"][0]["results"]
    bad = [result["suppressions"] for result in results if result["kind"] == "fail"]
    assert all(one[0]["status"] == "accepted" for one in bad)
    page = (home / "report.html").read_text().replace("<wbr>", "")
    assert "· accepted ·" in page
    assert f"trustml replay {home}#F-001" in page
    _run(["replay", f"{home}#F-001"], 0)


def _run(words: list[str], code: int) -> Any:
    ended = CliRunner().invoke(cli, words)
    assert ended.exit_code == code, (ended.output, ended.exception)
    return ended.output
