"""The exam of explanations: three fixed rows, each method asked for, and what tells them apart."""

from dataclasses import replace

from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.explanation_cases import ASIDE, check_claims, examine, read
from trustml.benchmarks.explanation_metrics import METRICS
from trustml.benchmarks.explanations import REFERENCES
from trustml.benchmarks.plan import Case, Plan, anywhere, labels, unique
from trustml.contracts import Dataset, Json
from trustml.errors import UnknownName
from trustml.recipes import choose
from trustml.records import plain
from trustml.registry import all_of

ALL = "all"


def check(plan: Plan) -> Plan:
    """Return the plan with canonical attributions, the fixed rows in front.

    Raises:
        UsageError: a name or an option that is not allowed.
    """
    for name in plan.figures:
        if name not in METRICS:
            raise UnknownName.of("figure", name, METRICS)
    asked = [choose("attribution", name) for text in plan.attributions for name in _names(text)]
    named = {choice.plugin.name for choice in asked}
    fixed = [choose("attribution", name) for name in REFERENCES if name not in named]
    texts = unique(anywhere(choice).text for choice in (*fixed, *asked))
    return replace(plan, attributions=texts)


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return a row for each method, and one that sets them beside the random one."""
    facts: dict[str, Json] = {"explained": "the answered class"}
    methods = [choose("attribution", text) for text in plan.attributions]
    names = labels([ASIDE, *(method.plugin.name for method in methods)])[1:]
    return [
        *(
            Case(
                f"{label}-{name}", "attribution", method.plugin.name, method.text,
                plain(method.options), model, seed, facts,
            )
            for name, method in zip(names, methods, strict=True)
        ),
        Case(f"{label}-{ASIDE}", "attributions", ASIDE, "", None, model, seed, facts),
    ]  # fmt: skip


def _names(text: str) -> list[str]:
    """Return the text, or the name of every method for "all"."""
    return [plugin.name for plugin in all_of("attribution")] if text == ALL else [text]


EXPLANATION = Discipline(
    kinds=("attribution", "attributions"),
    wanted=lambda plan: bool(plan.attributions),
    checked=check,
    cases=cases,
    size=lambda plan: 1 + len(plan.attributions),
    examined=examine,
    verified=check_claims,
    read=read,
    apart=lambda plan, case: "all" if case.kind == "attribution" else "no",
)
