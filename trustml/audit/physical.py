"""Whether it is fooled through what stands before it: the scanner, and what sticks on an input."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.findings import Finding, done, graded
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Record
from trustml.errors import NotApplicable


def _plan(base: Plan, subject: Subject) -> Plan:
    if subject.access < Access.GRADIENTS:
        raise NotApplicable("an attacker prepares such changes by gradients, which it hides")
    if not subject.pictures:
        raise NotApplicable("its inputs are no pictures: there is no scanner and no sticker")
    more = subject.by_depth((), ("envelope",), ("envelope",))
    return replace(base, routes=("scanner", *more), limit=subject.by_depth(100, 300, 1000))


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    for record in done(records, "success without"):
        score = record.scores["success without"]
        yield Finding(
            "route", "physical",
            f"{record.plugin.replace('_', ' ')} makes it misread {score.value:.1%} of what it read "
            f"rightly",
            graded(1 - score.high), "success without", score, record.case, ("physical evasion",),
            "Watch the scanner with golden cards and a drift monitor, the mail with abstention; "
            f"measure them: trustml bench --route {record.plugin} --defense golden_card",
        )  # fmt: skip


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    # Each route prepares itself by about 100 steps over the samples it sees.
    return 600.0 * subject.inputs(plan), 400.0 * subject.inputs(plan)


PHYSICAL = Section("physical", "Fooled through scanner and sticker", _plan, _judged, _passes)
