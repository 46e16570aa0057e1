"""`trustml audit` and `trustml replay`: words → an audit, its progress, its findings, its page."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from trustml.audit import auditing
from trustml.audit.accepting import deciding, name_of
from trustml.audit.auditing import Outcome
from trustml.audit.findings import SEVERITIES, Finding, Severity
from trustml.audit.preparing import AUDIT, Prepared, prepared, resumed
from trustml.audit.replaying import named, replay
from trustml.benchmarks.plan import Plan
from trustml.cli.lines import say, say_command
from trustml.cli.running import size_of
from trustml.cli.targeting import target_text
from trustml.contracts import Access
from trustml.deployment import recognised
from trustml.errors import BadInput, UnknownName
from trustml.reports.audit_page import grades, listed, verdict, write_audit_page
from trustml.reports.exports import export
from trustml.reports.page import write_page
from trustml.reports.tables import console

_DANGER = 3


def run_audit(
    model: str | None, folder: Path | None, fail_on: str | None, as_json: bool, **words: Any
) -> None:
    """Carry an audit out, or go on with one; end with exit code 3 where it found what it must not.

    Raises:
        UsageError: model, data or a word that cannot be.
        TrustError: the model does not answer.
    """
    limit = severity(fail_on) if fail_on else None
    resume = words.pop("resume")
    depth = words.pop("depth")
    runs, budget = words.pop("runs"), words.pop("budget")
    accepted, epsilon = words.pop("accept"), words.pop("epsilon")
    model = target_text(model or "", words) or None
    if resume is not None:
        found = resumed(Path(resume), budget, accepted or None)
    else:
        if model is None:
            raise BadInput("no model to audit; name one: trustml audit MODEL --data DATA")
        recipe = recognised(model) or model
        check_home(folder)
        home = folder if folder is not None else _new(runs, recipe, words["data"])
        sizes = (size_of(epsilon),) if epsilon is not None else ()
        base = Plan(models=(recipe,), epsilons=sizes, **words)
        found = prepared(base, depth, home, budget or 0, accepted)
    if not as_json:
        _announce(found)
    outcomes = []
    began = time.monotonic()
    try:
        for outcome in auditing.carried_out(found):
            outcomes.append(outcome)
            _tell(outcome, as_json, time.monotonic() - began)
            began = time.monotonic()
    except KeyboardInterrupt:
        click.echo(f"Stopped. Continue with: trustml audit --resume {found.folder}", err=True)
        sys.exit(130)
    findings, _ = auditing.findings_of(found.folder)
    failing = deciding(findings, limit, found.accepted) if limit is not None else []
    _conclude(found, outcomes, failing, as_json)
    if failing:
        sys.exit(_DANGER)
    if any(outcome.failed for outcome in outcomes):
        sys.exit(1)


def write_report(folder: Path, form: str, fail_on: str) -> None:
    """Write an audit or a run in a form, and say where it lies.

    Raises:
        UsageError: no such form, or the folder holds neither.
    """
    if (folder / AUDIT).is_file():
        page = form == "page"
        path = write_audit_page(folder) if page else export(folder, form, severity(fail_on))
    elif form == "page":
        path = write_page(folder)
    else:
        raise BadInput(f"{folder} holds no audit: --to {form} needs the folder of trustml audit")
    click.echo(f"It lies in {path}")


def print_replay(text: str, model: str | None, as_json: bool) -> None:
    """Measure one finding again; exit code 1 where the number lies outside its interval.

    Raises:
        UsageError: there is no such finding.
        TrustError: the case fails now.
    """
    found = replay(*named(text), None if model is None else recognised(model) or model)
    then, again = found.finding.score, found.again
    if as_json:
        facts = {"finding": found.finding.to_json(), "again": again.value}
        facts |= {"severity": found.now.severity if found.now else None, "accused": found.accused}
        click.echo(json.dumps({**facts, "reproduced": found.reproduced, "worse": found.worse}))
    else:
        say(f"{found.finding.id} ({found.finding.severity}): {found.finding.title}")
        say(
            f"{found.finding.metric}: {then.value:.4g} then ({then.low:.4g} to {then.high:.4g}), "
            f"{again.value:.4g} now: {'reproduced' if found.reproduced else 'not reproduced'}"
        )
        if found.now is not None and found.now.severity != found.finding.severity:
            say(f"Its severity is {found.now.severity} now.")
        if found.accused[0] != found.accused[1]:
            said = ["none" if one is None else f"class {one}" for one in found.accused]
            say(f"Accused of a backdoor: {said[0]} then, {said[1]} now.")
    if not found.reproduced:
        sys.exit(1)


def check_home(folder: Path | None) -> None:
    """Check that a folder can be made there, before the model is asked anything.

    Raises:
        BadInput: a file is in its place, or on the way to it.
    """
    for place in [folder, *folder.parents] if folder is not None else []:
        if place.exists() and not place.is_dir():
            raise BadInput(f"--out {folder}: {place} is a file; name a new folder")


def severity(text: str) -> Severity:
    """Return the severity of that name.

    Raises:
        UnknownName: there is none.
    """
    if text not in SEVERITIES[:-1]:
        raise UnknownName.of("severity", text, SEVERITIES[:-1])
    return text


def _new(runs: Path, recipe: str, data: str) -> Path:
    parts = [part.split(":")[0].replace("/", ".") for part in (recipe, data)]
    name = "-".join(["audit", *parts])
    number, folder = 1, runs / name
    while folder.exists():
        number += 1
        folder = runs / f"{name}-{number}"
    return folder


def _announce(found: Prepared) -> None:
    shown = found.subject.access.name.lower()
    click.echo(f"It shows {shown}; the fingerprint took {found.prints.queries} queries.")
    for note in found.notes:
        say(f"note: {note}")
    for item in found.items:
        if item.plan is None:
            say(f"not examined: {item.section.title}: {item.reason}")
    if any(item.plan and item.section.name in ("robustness", "black_box") for item in found.items):
        data = found.base.data.partition(":")[0]
        own = ", ".join(f"{size:.4g}" for size in found.base.epsilons)
        usual = f"the usual budget of {data}; --epsilon sets another"
        say(f"An attacker may change each pixel by {own or usual}.")
    pace = f", at the {found.rate:g} requests a second that are allowed" if found.rate else ""
    also = "" if found.subject.access < Access.GRADIENTS else ", honest models' training included"
    say(
        f"To come: {sum(item.plan is not None for item in found.items)} sections, at most "
        f"{found.queries:,.0f} inputs asked about, and about {_span(found.seconds)} at the "
        f"speed of its answers just now{pace}{also}."
    )
    ledger = found.ledger
    if ledger.budget:
        left = ledger.budget - ledger.asked
        enough = "so the budget is enough" if left >= found.queries else (
            "so the budget may end before: what is then left is said to be not tested"
        )  # fmt: skip
        say(f"Its budget is {ledger.budget:,} queries; {ledger.asked:,} were asked, {enough}.")


def _span(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _tell(outcome: Outcome, as_json: bool, seconds: float) -> None:
    if as_json:
        click.echo(json.dumps(auditing.facts_of(outcome)))
    elif outcome.item.plan is not None:
        grade = auditing.grade(outcome)
        reason = f": {outcome.reason}" if outcome.reason else ""
        say(f"{outcome.item.section.title}: {grade}{reason} ({seconds:.0f} s)")


def _conclude(
    found: Prepared, outcomes: Sequence[Outcome], failing: Sequence[Finding], as_json: bool
) -> None:
    findings, facts = auditing.findings_of(found.folder)
    page = write_audit_page(found.folder)
    if as_json:
        return
    screen = console()
    screen.print()
    screen.print(grades(facts))
    if findings:
        screen.print(listed(findings, found.accepted))
    screen.print(verdict(findings, facts), style="bold")
    say(f"The page lies in {page}")
    if failing:
        names = ", ".join(dict.fromkeys(name_of(f).rpartition("/")[0] for f in failing))
        say(
            f"Exit code 3: {len(failing)} findings that --fail-on names: {names}. A known one is "
            f"accepted by its name: --accept {names.split(',')[0]}"
        )
    again = ["trustml", "audit", "--resume", str(found.folder)]
    failed = [outcome.item.section.title for outcome in outcomes if outcome.failed]
    if found.ledger.spent:
        say_command(
            f"The budget of {found.ledger.budget:,} queries was spent. Go on with a higher one",
            [*again, "--budget", "N"],
        )
    elif failed:
        say(f"Failed: {'; '.join(failed)}. What was finished is kept.")
        say_command("Once its cause is mended, try again what failed", again)
