"""Whether a copy can be made by asking, and how many queries that takes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.findings import Finding, Severity, done
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.theft import UNIFORM
from trustml.contracts import Access, Record

# Agreement on test inputs from which on a copy is that good a copy.
_COPIES: tuple[tuple[float, Severity], ...] = ((0.99, "high"), (0.95, "medium"), (0.9, "low"))


def _plan(base: Plan, subject: Subject) -> Plan:
    answers = min(subject.access, subject.says, Access.LOGITS).name.lower()
    budget = subject.by_depth(2000, 10_000, 50_000)
    # What takes time is the training of copies: for a first look, one of each thief will do.
    thief = subject.by_depth("auto:copies=1", "auto", "auto")
    return replace(
        base, stealers=(thief,), terms=f"answers={answers}", budget=budget,
        limit=subject.by_depth(500, 2000, 0),
    )  # fmt: skip


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    for record in done(records, "agreement (test)"):
        yield _finding(record)


def _finding(record: Record) -> Finding:
    score = record.scores["agreement (test)"]
    ratio = record.scores.get("queries over the least")
    severity: Severity = next((s for least, s in _COPIES if score.high >= least), "passed")
    exact = record.scores.get("parameter error")
    if severity == "high" and exact is not None and exact.value < 1e-3:
        severity = "critical" if ratio is None or ratio.value <= 10 else severity
    known = f"; its parameters are known to {exact.value:.1e}" if exact is not None else ""
    return Finding(
        "copied", "stealing",
        f"{record.cost.queries:.0f} queries make a copy that answers {score.value:.1%} of the test "
        f"inputs as it does{known}",
        severity, "agreement (test)", score, record.case, ("extraction",),
        "Tell less with each answer (the class alone, or probabilities of two decimals), and "
        "answer fewer questions of each account; watch who asks very many.",
        measure="--stealer auto --countermeasure label_only --countermeasure rounded",
    )  # fmt: skip


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    # The thief's queries, then its victim's answers to what the copy is judged by, asked up to five
    # times, and what tells whether the victim is affine.
    return float(plan.budget + 5 * (subject.inputs(plan) + UNIFORM) + 2000), 0.0


def _steps(subject: Subject) -> float:
    # What is affine is solved for. Else a copy takes 1,000 steps, and each of two thieves trains
    # one for a first look; else five and four.
    return 0.0 if subject.linear else subject.by_depth(2000.0, 9000.0, 9000.0)


STEALING = Section(
    "stealing", "Stolen by asking", _plan, _judged, _passes, alone=True, steps=_steps
)
