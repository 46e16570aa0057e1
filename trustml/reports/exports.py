"""An audit for machines that build and release: JUnit XML, SARIF 2.1.0, pytest regressions."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from trustml.audit.accepting import accepted_by, deciding
from trustml.audit.auditing import findings_of
from trustml.audit.findings import Finding, Severity, at_least
from trustml.audit.preparing import read_audit
from trustml.audit.replaying import command
from trustml.audit.taxonomy import names
from trustml.benchmarks.place import trustml_version
from trustml.contracts import Json
from trustml.errors import UnknownName
from trustml.files import write_whole
from trustml.reports.audit_commands import advice

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note"}


def export(folder: Path, form: str, fail_on: Severity) -> Path:
    """Write a complete audit in another form into its folder, and return the file.

    Args:
        folder: of the audit.
        form: "junit", "sarif" or "tests".
        fail_on: findings so bad, or worse, fail.

    Raises:
        UnknownName: no such form.
        BadInput: the folder holds no complete audit.
    """
    if form not in _FORMS:
        raise UnknownName.of("form of report", form, ("page", *_FORMS))
    name, write = _FORMS[form]
    findings, facts = findings_of(folder)
    write_whole(folder / name, write(folder, findings, facts, fail_on).encode())
    return folder / name


def _junit(
    folder: Path, findings: Sequence[Finding], facts: dict[str, Any], fail_on: Severity
) -> str:
    """Return a suite for each section, a test for each finding; what says nothing is no pass."""
    root = ElementTree.Element("testsuites", name="trustml audit")
    for section, fate in facts["sections"].items():
        mine = [finding for finding in findings if finding.section == section]
        suite = ElementTree.SubElement(root, "testsuite", name=section)
        for finding in mine:
            name = f"{finding.name}: {finding.case}"
            test = ElementTree.SubElement(suite, "testcase", classname=section, name=name)
            accepted = accepted_by(finding, facts.get("accepted", ()))
            if accepted:
                why = f"accepted by --accept {accepted}: {finding.severity}: {finding.title}"
                ElementTree.SubElement(test, "skipped", message=why)
            elif at_least(finding.severity, fail_on):
                failure = ElementTree.SubElement(test, "failure", type=finding.severity)
                failure.set("message", finding.title)
                failure.text = f"{advice(finding, folder)}\n{command(folder, finding)}"
        failed = len(deciding(mine, fail_on, facts.get("accepted", ())))
        known = sum(bool(accepted_by(finding, facts.get("accepted", ()))) for finding in mine)
        if not mine or fate["failed"]:
            test = ElementTree.SubElement(suite, "testcase", classname=section, name=section)
            kind = "error" if fate["failed"] else "skipped"
            ElementTree.SubElement(test, kind, message=fate["reason"] or "nothing was measured")
        counts = {
            "tests": len(mine) + int(not mine or fate["failed"]), "failures": failed,
            "errors": int(fate["failed"]),
            "skipped": known + int(not mine and not fate["failed"]),
        }  # fmt: skip
        for name, count in counts.items():
            suite.set(name, str(count))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _sarif(
    folder: Path, findings: Sequence[Finding], facts: dict[str, Any], fail_on: Severity
) -> str:
    """Return the findings as results; rules are what judged them."""
    base, _ = read_audit(folder)
    rules = {_rule(finding): finding for finding in findings}
    lost = [
        {"text": f"{section}: {fate['reason'] or 'nothing was measured'}"}
        for section, fate in facts["sections"].items()
        if fate["failed"] or fate["grade"] == "not examined"
    ]
    run = {
        "tool": {
            "driver": {
                "name": "trustml",
                "version": trustml_version(),
                "rules": [_described(name, finding, folder) for name, finding in rules.items()],
            }
        },
        "invocations": [
            {
                "executionSuccessful": not any(f["failed"] for f in facts["sections"].values()),
                "toolExecutionNotifications": [{"message": text} for text in lost],
            }
        ],
        "results": [
            _result(finding, folder, base.models[0]) | {"suppressions": _accepted(finding, facts)}
            for finding in findings
        ],
    }
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [run],
        },
        indent=1,
    )


def _described(name: str, finding: Finding, folder: Path) -> Json:
    return {
        "id": name,
        "shortDescription": {"text": f"{finding.section}: {finding.name}"},
        "help": {"text": advice(finding, folder)},
        "properties": {"tags": list(names(finding.kinds))},
    }


def _result(finding: Finding, folder: Path, model: str) -> Json:
    bad = finding.severity in _LEVELS
    return {
        "ruleId": _rule(finding),
        "kind": "fail" if bad else "pass",
        "level": _LEVELS.get(finding.severity, "none"),
        "message": {"text": f"{finding.title}. {advice(finding, folder) if bad else ''}".strip()},
        "locations": [{"logicalLocations": [{"name": model, "kind": "module"}]}],
        "partialFingerprints": {"case/v1": f"{finding.section}/{finding.name}/{finding.case}"},
        "properties": {
            "severity": finding.severity, "value": finding.score.value,
            "low": finding.score.low, "high": finding.score.high,
            "replay": command(folder, finding),
        },
    }  # fmt: skip


def _accepted(finding: Finding, facts: dict[str, Any]) -> list[Json]:
    """Return by what the finding is accepted; none says that nobody has accepted it."""
    accepted = accepted_by(finding, facts.get("accepted", ()))
    why = f"trustml audit --accept {accepted}"
    known = {"kind": "external", "status": "accepted", "justification": why}
    return [known] if accepted else []


def _rule(finding: Finding) -> str:
    return f"{finding.section}/{finding.name.replace(' ', '-')}"


_TESTS = '''"""Written by `trustml report … --to tests`: no finding may become worse than it was.

TRUSTML_MODEL names another model to hold against them, such as the next release.
"""

import os
from pathlib import Path

import pytest

from trustml.audit.replaying import replay

FINDINGS = {findings}


@pytest.mark.parametrize("name", FINDINGS, ids=FINDINGS.values())
def test_it_is_no_worse_than_it_was(name: str) -> None:
    """The number measured again is not beyond the bad end of the audit's 95 % interval."""
    found = replay({path}, name, os.environ.get("TRUSTML_MODEL"))
    assert not found.worse, f"{{found.finding.title}}; now {{found.again.value:.4g}}"
'''


def _tests(
    folder: Path, findings: Sequence[Finding], facts: dict[str, Any], fail_on: Severity
) -> str:
    lines = [f"    {f.id!r}: {f'{f.section} {f.name} {f.case}'!r}," for f in findings]
    listed = "\n".join(["{", *lines, "}"])
    path = f"Path({str(folder.resolve())!r})"
    return _TESTS.format(findings=listed, path=path)


_Form = Callable[[Path, Sequence[Finding], dict[str, Any], Severity], str]
_FORMS: dict[str, tuple[str, _Form]] = {
    "junit": ("junit.xml", _junit),
    "sarif": ("report.sarif", _sarif),
    "tests": ("test_trust.py", _tests),
}
