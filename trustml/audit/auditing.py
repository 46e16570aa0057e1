"""An audit under way: section after section run, each judged, and what was found kept."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trustml.audit.agenda import Item
from trustml.audit.findings import Finding, from_json, numbered, worst
from trustml.audit.preparing import Prepared, read_audit
from trustml.benchmarks import harness
from trustml.benchmarks.plan import PLAN
from trustml.benchmarks.setting import told
from trustml.contracts import Json, Record
from trustml.errors import BadInput, DiskFull, TrustError
from trustml.files import locked, write_whole
from trustml.ledger import Ledger, entered_in

FINDINGS, SECTIONS = "findings.json", "sections"
_UNTESTED = "not tested: budget spent"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of a section: its records, or why there are none; `failed` tells a failure."""

    item: Item
    records: Sequence[Record]
    findings: Sequence[Finding]
    reason: str = ""
    failed: bool = False


def carried_out(found: Prepared) -> Iterator[Outcome]:
    """Run each section, yield what became of it, and keep all findings at the end.

    A section that fails is an outcome of its own, never a pass; the others go on.

    Raises:
        DiskFull: nothing more could be written.
        BadInput: another process is at work in the folder.
    """
    outcomes = []
    with locked(found.folder):
        for item in found.items:
            with entered_in(found.ledger):
                outcome = _outcome(item, found.folder, found.ledger)
            outcomes.append(outcome)
            yield outcome
        kept(found, outcomes)


def kept(found: Prepared, outcomes: Sequence[Outcome]) -> list[Finding]:
    """Write what was found and what was not examined, and return the findings with their ids."""
    findings = numbered(finding for outcome in outcomes for finding in outcome.findings)
    facts: dict[str, Json] = {
        "schema": 1,
        "fingerprint": found.prints.facts(),
        "notes": list(found.notes),
        "classes": list(found.classes),
        "tests": found.subject.tests,
        "accepted": list(found.accepted),
        "queries": {"asked": found.ledger.asked, "budget": found.ledger.budget},
        "sections": {
            outcome.item.section.name: {
                "grade": grade(outcome),
                "reason": outcome.reason,
                "failed": outcome.failed,
                "inputs": found.subject.inputs(outcome.item.plan) if outcome.item.plan else 0,
            }
            for outcome in outcomes
        },
        "findings": [finding.to_json() for finding in findings],
    }
    write_whole(found.folder / FINDINGS, json.dumps(facts, indent=1).encode())
    return findings


def findings_of(folder: Path) -> tuple[list[Finding], dict[str, Any]]:
    """Return the findings of a complete audit, and all that is kept beside them.

    Raises:
        BadInput: the audit is not complete, or its file is damaged.
    """
    read_audit(folder)
    path = folder / FINDINGS
    if not path.is_file():
        raise BadInput(f"the audit in {folder} is not complete: trustml audit --resume {folder}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return [from_json(one) for one in facts["findings"]], facts
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: damaged ({error})") from error


def grade(outcome: Outcome) -> str:
    """Return the worst severity of a section, or that it says nothing.

    Where a part of it failed, what was found counts, but what was not found is no pass.
    """
    known = worst(f.severity for f in outcome.findings)
    if outcome.failed and known == "passed":
        return "failed"
    return known if outcome.findings else "not examined"


def run_of(folder: Path, section: str) -> Path:
    """Return the folder of a section's run."""
    return folder / SECTIONS / section


def facts_of(outcome: Outcome) -> dict[str, Json]:
    """Return an outcome as plain values, for machines."""
    return {
        "section": outcome.item.section.name,
        "grade": grade(outcome),
        "reason": outcome.reason,
        "findings": [asdict(finding) for finding in outcome.findings],
    }


def _outcome(item: Item, folder: Path, ledger: Ledger) -> Outcome:
    if item.plan is None:
        return Outcome(item, [], [], item.reason)
    run = run_of(folder, item.section.name)
    begun, spent = (run / PLAN).is_file(), ledger.spent
    if spent and not begun:
        return Outcome(item, [], [], _UNTESTED)
    try:
        records = list(harness.resume(run) if begun else harness.start(item.plan, run))
    except DiskFull:
        raise
    except TrustError as error:
        why, failed = " ".join(str(error).split()), True
        records = harness.finished(run) if (run / PLAN).is_file() else []
        if spent and not records:
            why, failed = _UNTESTED, False
        return Outcome(item, records, list(item.section.judged(records)), why, failed)
    except Exception as error:  # a deployed model is a stranger's: the other sections go on
        return Outcome(item, [], [], f"it crashed: {told(error)}", failed=True)
    broken = [record for record in records if record.status == "failed"]
    found = list(item.section.judged(records))
    if not broken:
        why = next((record.reason for record in records if record.reason), "")
        return Outcome(item, records, found, "" if found else why)
    part = "" if len(broken) == len(records) else f"{len(broken)} of {len(records)} checks: "
    return Outcome(item, records, found, f"{part}{broken[0].reason}", failed=True)
