"""Whether it is fooled by who sees only what it answers, and how many queries that takes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.change import change
from trustml.audit.findings import Finding, done, graded, left
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Norm, Record
from trustml.errors import NotApplicable


def _plan(base: Plan, subject: Subject) -> Plan:
    norms: tuple[Norm, ...] = ("linf",)
    if "linf" not in subject.budgets:
        raise NotApplicable("the data have no usual budget: say one with --epsilon")
    queries = subject.by_depth(500, 2000, 5000)
    scores = (f"square:queries={queries}",) if subject.access >= Access.PROBABILITIES else ()
    return replace(
        base, attacks=(*scores, f"rays:queries={queries}"), norms=norms, budget=queries,
        limit=subject.by_depth(50, 200, 500), certify="off", indicators=False,
    )  # fmt: skip


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    for record in done(records, "robust accuracy", "clean accuracy"):
        if record.plugin not in ("all", "noise"):
            yield _finding(record)


def _finding(record: Record) -> Finding:
    robust, clean = record.scores["robust accuracy"], record.scores["clean accuracy"]
    return Finding(
        "black box", "black_box",
        f"Of {clean.value:.1%} right answers {robust.value:.1%} remain under {record.plugin}, "
        f"which sees only answers, {change(record)}; it asked {record.cost.queries:.0f} queries "
        f"an input on average",
        graded(left(robust, clean.value)), "robust accuracy", robust, record.case,
        ("black-box evasion",),
        "Bound how many questions an account may ask, and look out for many that are nearly the "
        "same (the safeguard query_monitor); answer with the class alone, without probabilities. "
        "All of this makes the attack slower, and only a steadier model withstands it: see the "
        "section robustness.",
    )  # fmt: skip


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    return float(plan.budget * len(plan.attacks) * subject.inputs(plan)), 0.0


BLACK_BOX = Section("black_box", "Fooled by who only asks", _plan, _judged, _passes)
