"""Whether explanations of its answers say more than chance, stand still, and keep it secret."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from trustml.audit.findings import Finding, done, graded
from trustml.audit.sections import Section, Subject
from trustml.benchmarks.explanation_stability import EMPTY
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Record
from trustml.errors import NotApplicable

_CONTROLS = ("random", "blurred_random", "linear_exact")
# What is judged, and what is quickly measured beside it; the others take copies of the model that
# are trained anew, and thieves.
_QUICK = ("completeness error", "deletion", "ROAD", "stability under attack")
# Answers that are saturated or rounded take any number of steps until a map sums up, for each move
# of an attack on it: a first look takes the map as it is after so many; what it lacks is measured.
_INTEGRATED = "integrated_gradients:steps=64,most_steps=256,bound=1.0"


def _plan(base: Plan, subject: Subject) -> Plan:
    if subject.access < Access.GRADIENTS:
        raise NotApplicable("explanations are made from gradients, which it does not show")
    more = subject.by_depth((), ("gradient_shap",), ("gradient_shap", "smooth_grad", "occlusion"))
    first = subject.by_depth(_INTEGRATED, "integrated_gradients", "integrated_gradients")
    methods = (first, "input_x_gradient", *more)
    return replace(
        base,
        attributions=methods,
        figures=_QUICK if subject.depth == "quick" else (),
        limit=subject.by_depth(24, 100, 200),
    )


def _judged(records: Sequence[Record]) -> Iterator[Finding]:
    methods = [r for r in done(records, "deletion") if r.kind == "attribution"]
    chance = next((r for r in methods if r.plugin == "random"), None)
    for record in methods:
        if record.plugin in _CONTROLS:
            continue
        if chance is not None:
            yield _sense(record, chance)
        if "stability under attack" in record.scores:
            yield _stability(record)
        elif any(EMPTY in note for note in record.notes):
            yield _nothing(record)


def _sense(record: Record, chance: Record) -> Finding:
    own, other = record.scores["deletion"], chance.scores["deletion"]
    told = own.high < other.low
    return Finding(
        "better than chance", "explaining",
        f"Taking away first what the explanation {record.plugin} calls important leaves "
        f"{own.value:.2f} of the answer, a random order {other.value:.2f}: "
        f"{'better than chance' if told else 'no better than chance'}",
        "passed" if told else "medium", "deletion", own, record.case, ("explanation",),
        "Do not show such explanations to anyone who decides by them.",
    )  # fmt: skip


def _stability(record: Record) -> Finding:
    score = record.scores["stability under attack"]
    severity = graded(score.low)
    return Finding(
        "stable under attack", "explaining",
        f"The explanation {record.plugin} keeps {score.value:.2f} of what it pointed at when an "
        f"attacker changes the input and not the answer",
        # A moved explanation misleads a reader; it does not sort a letter wrongly.
        "medium" if severity in ("critical", "high") else severity,
        "stability under attack", score, record.case, ("explanation",),
        "Do not take an explanation as evidence where somebody gains by misleading its reader.",
    )  # fmt: skip


def _nothing(record: Record) -> Finding:
    score = record.scores["deletion"]
    return Finding(
        "stable under attack", "explaining",
        f"The explanation {record.plugin} says nothing: {EMPTY}, as the model's gradients are 0. "
        f"Whether an attacker could move it is no question",
        "medium", "deletion", score, record.case, ("explanation",),
        "Do not show it, and do not take it for a pass: see masked gradients in the section "
        "robustness.",
    )  # fmt: skip


def _passes(plan: Plan, subject: Subject) -> tuple[float, float]:
    if subject.depth == "quick":
        # Integrated gradients of 50 steps, once and for each of 20 moves of an attack on it.
        return 1400.0 * subject.inputs(plan), 1100.0 * subject.inputs(plan)
    methods = (len(plan.attributions) + 3) * subject.inputs(plan)
    return 2500.0 * methods, 250.0 * methods


EXPLAINING = Section("explaining", "Explanations that can be relied on", _plan, _judged, _passes)
