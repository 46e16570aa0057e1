"""An audit as one page: what was found, how bad it is, the evidence, what is not known."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from trustml.audit.accepting import accepted_by, name_of
from trustml.audit.agenda import SECTIONS
from trustml.audit.auditing import findings_of, run_of
from trustml.audit.findings import SEVERITIES, Finding, worst
from trustml.audit.preparing import AUDIT, read_audit
from trustml.audit.replaying import command
from trustml.audit.taxonomy import names
from trustml.benchmarks import harness
from trustml.benchmarks.place import trustml_version
from trustml.benchmarks.plan import PLAN, Plan
from trustml.files import write_whole
from trustml.reports import markup
from trustml.reports.audit_commands import (
    advice,
    audit_command,
    bench_command,
    budget_words,
    data_of,
    model_of,
)
from trustml.reports.fingerprint_words import fingerprint_words
from trustml.reports.page import PAGE, Part, page, results, title_of
from trustml.reports.pictures import pictures_of
from trustml.reports.severities import ABOUT, severities
from trustml.reports.tables import plain_table

_LOOKS = {"critical": "bad", "high": "bad", "medium": "warn", "low": "warn", "passed": "good"}
_BUDGETED = ("robustness", "black_box")
_NAMED = 20  # classes; of more the others are counted


def write_audit_page(folder: Path) -> Path:
    """Write the page of a complete audit into its folder, and return the file.

    Raises:
        BadInput: the folder holds no complete audit.
        BrokenClaim: files of its runs are damaged.
    """
    findings, facts = findings_of(folder)
    base, depth = read_audit(folder)
    sections: list[Part] = [
        ("What was found", "findings", list(_found(findings, folder, base, facts))),
        ("What was tested", "tested", [_tested(folder, base, depth, facts)]),
        ("What is not known", "unknown", list(_unknown(folder, facts))),
        *_evidence(folder, base, facts),
        ("How findings are judged", "rules", [markup.paragraph(ABOUT), markup.table(severities())]),
        ("How to see it again", "again", list(_again(folder, base, depth, (findings, facts)))),
    ]
    title = f"{title_of(base)}: trustml audit"
    write_whole(folder / PAGE, page(title, sections, _verdict(findings, facts)).encode())
    return folder / PAGE


def grades(facts: Mapping[str, Any]) -> Table:
    """Return the table of the sections and their grades."""
    table = plain_table("Sections", "section", [])
    table.add_column("grade (worst finding)")
    table.add_column("why nothing is known")
    titles = {section.name: section.title for section in SECTIONS}
    for name, fate in facts["sections"].items():
        table.add_row(titles.get(name, name), fate["grade"], fate["reason"])
    return table


def listed(findings: Sequence[Finding], accepted: Sequence[str] = ()) -> Table:
    """Return the table of the findings, the worst first; what is accepted is marked."""
    table = plain_table("Findings", "id", [])
    table.add_column("severity")
    table.add_column("what was found")
    for finding in findings:
        known = "\naccepted" if accepted_by(finding, accepted) else ""
        table.add_row(finding.id, f"{finding.severity}{known}", finding.title)
    return table


def verdict(findings: Sequence[Finding], facts: Mapping[str, Any]) -> str:
    """Return the outcome in a sentence."""
    counts = [
        f"{count} {severity}" for severity in SEVERITIES
        if (count := sum(finding.severity == severity for finding in findings))
    ]  # fmt: skip
    lost = [n for n, fate in facts["sections"].items() if fate["grade"] in _NOTHING]
    said = f"Worst finding: {worst(f.severity for f in findings)} ({', '.join(counts)})."
    if not findings:
        said = "Nothing was found out."
    part = _unfinished(facts)
    known = [f.id for f in findings if accepted_by(f, facts.get("accepted", ()))]
    said += f" Accepted: {', '.join(known)}." if known else ""
    said += f" Not finished: {', '.join(part)}." if part else ""
    return f"{said} Nothing is known about: {', '.join(lost)}." if lost else said


_NOTHING = ("failed", "not examined")


def _unfinished(facts: Mapping[str, Any]) -> list[str]:
    """Return the sections that found something before they failed."""
    fates = facts["sections"].items()
    return [name for name, f in fates if f.get("failed") and f["grade"] not in _NOTHING]


def _verdict(findings: Sequence[Finding], facts: Mapping[str, Any]) -> list[str]:
    look = _LOOKS[worst(finding.severity for finding in findings)] if findings else "warn"
    return [markup.paragraph(verdict(findings, facts), look)]


def _found(
    findings: Sequence[Finding], folder: Path, base: Plan, facts: Mapping[str, Any]
) -> Iterator[str]:
    yield markup.paragraph(f"{ABOUT} The rules stand at the end of the page.", "small")
    for finding in findings:
        accepted = accepted_by(finding, facts.get("accepted", ()))
        score, known = finding.score, names(finding.kinds)
        rows = [
            ("evidence", f"{finding.metric} {score.value:.4g} (95 % interval {score.low:.4g} to "
                         f"{score.high:.4g}), case {finding.case} of section {finding.section}"
                         f"{_of_inputs(facts, finding.section)}"),
            *([("known as", "; ".join(known))] if known else []),
            *(_remedy(finding, folder, base) if finding.severity != "passed" else []),
            *([("accepted", f"by --accept {accepted}: it decides nothing")] if accepted else []),
            *([("name (--accept)", name_of(finding))] if finding.severity != "passed" else []),
            ("again", command(folder, finding)),
        ]  # fmt: skip
        mark = " · accepted" if accepted else ""
        head = f"{finding.id} · {finding.severity}{mark} · {finding.title}"
        yield f'<h3 class="{_LOOKS[finding.severity]}">{escape(head)}</h3>{markup.facts(rows)}'


def _remedy(finding: Finding, folder: Path, base: Plan) -> list[tuple[str, str]]:
    tried = bench_command(base, finding.measure) if finding.measure else ""
    told = advice(finding, folder)
    return [("what to do", told), *([("measure it", tried)] if tried else [])]


def _of_inputs(facts: Mapping[str, Any], section: str) -> str:
    """Return of how many inputs a section's numbers are; "" where the audit has not kept it."""
    count, tests = facts["sections"].get(section, {}).get("inputs", 0), facts.get("tests", 0)
    if not count:
        return ""
    return f", on {'all' if count == tests else f'the first {count} of'} {tests} test inputs"


def _tested(folder: Path, base: Plan, depth: str, facts: Mapping[str, Any]) -> str:
    begun = datetime.fromtimestamp((folder / AUDIT).stat().st_mtime, UTC)
    prints = facts["fingerprint"]
    classes = facts.get("classes", [])
    more = f" and {len(classes) - _NAMED} more" if len(classes) > _NAMED else ""
    pairs = [
        ("model", model_of(base)), ("data", data_of(base)),
        ("depth", depth),
        *([("accepted findings", ", ".join(facts["accepted"]))] if facts.get("accepted") else []),
        ("classes", ", ".join(classes[:_NAMED]) + more),
        ("begun", f"{begun:%Y-%m-%d %H:%M} UTC"), ("trustml", trustml_version()),
        *_asked(facts.get("queries", {})), *(("note", note) for note in facts.get("notes", [])),
        *fingerprint_words(prints, classes),
    ]  # fmt: skip
    return markup.table(grades(facts)) + markup.facts(pairs)


def _asked(queries: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return how many inputs a server was asked about; nothing of a model that is no server."""
    if not queries.get("asked"):
        return []
    bound = f" of at most {queries['budget']:,}" if queries["budget"] else ""
    return [("queries to the server", f"{queries['asked']:,}{bound}")]


def _unknown(folder: Path, facts: Mapping[str, Any]) -> Iterator[str]:
    lost = [
        f"{name}: {fate['grade']}: {fate['reason'] or 'no number came of it'}"
        for name, fate in facts["sections"].items() if fate["grade"] in _NOTHING
    ]  # fmt: skip
    if lost:
        yield markup.paragraph("These sections say nothing about the model, good or bad:")
        yield markup.items(lost)
    part = [f"{name}: {facts['sections'][name]['reason']}" for name in _unfinished(facts)]
    if part:
        yield markup.paragraph("These sections found something, and were not finished:")
        yield markup.items(part)
    if any(fate["failed"] for fate in facts["sections"].values()):
        yield markup.paragraph("What failed is tried again, and what was finished is kept, by:")
        yield markup.verbatim(f"trustml audit --resume {folder}")
    yield markup.paragraph(
        "An attack that fails proves nothing: a stronger one may succeed. What is proved is marked "
        "as proved. Membership of a sample in the training data, and theft of the file itself, "
        "were not examined."
    )


def _evidence(folder: Path, base: Plan, facts: Mapping[str, Any]) -> Iterator[Part]:
    for section in SECTIONS:
        run = run_of(folder, section.name)
        if section.name not in facts["sections"] or not (run / PLAN).is_file():
            continue
        records = harness.finished(run)
        of = _of_inputs(facts, section.name)
        said = [f"Every number of this section was measured{of[1:]}."] if of else []
        if section.name in _BUDGETED:
            said.append(budget_words(base, records))
        above = [markup.paragraph(" ".join(said))] if said else []
        tables = [part for _, _, parts in results(records) for part in parts]
        drawn = [markup.picture(p.png, p.said, p.caption) for p in pictures_of(run)]
        yield section.title, section.name, [*above, *tables, *drawn]


def _again(
    folder: Path, base: Plan, depth: str, known: tuple[Sequence[Finding], Mapping[str, Any]]
) -> Iterator[str]:
    findings, facts = known
    if findings:
        yield markup.paragraph("One finding, measured again (exit code 1 if not reproduced):")
        yield markup.verbatim(command(folder, findings[0]))
    runs = [run for one in SECTIONS if ((run := run_of(folder, one.name)) / PLAN).is_file()]
    if runs:
        yield markup.paragraph("Each section is a run, whose claims can be checked again:")
        yield markup.verbatim("\n".join(f"trustml verify {run}" for run in runs))
    yield markup.paragraph("The whole audit, with seed and every option:")
    yield markup.verbatim(audit_command(base, depth, facts))
