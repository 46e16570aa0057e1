"""The exam of an explanation: every metric that it is defined for, its cost, and the random row."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from trustml.benchmarks.explained import Explained
from trustml.benchmarks.explanation_cost import counted
from trustml.benchmarks.explanation_metrics import METRICS, PRICES
from trustml.benchmarks.explanation_question import Posed, Question, explainer
from trustml.benchmarks.explanation_scores import Difference, Measured, compare, holm
from trustml.contracts import Access, Cost
from trustml.errors import BadInput, MethodFailed, NotApplicable, UnknownName
from trustml.recipes import Choice

# The rows that stand in every table: the truth where it is known, and two that know nothing.
REFERENCES = ("linear_exact", "random", "blurred_random")
NOTHING, KNOW_NOTHING = "random", ("random", "blurred_random")


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A method's maps, its figures, the metrics that are not for it with the reason, its cost."""

    method: str
    explained: Explained
    measured: Mapping[str, Measured]
    skipped: Mapping[str, str]
    cost: Cost


def examine(
    question: Question, method: Choice, *, metrics: tuple[str, ...] | None = None
) -> Examined:
    """Return the method's figures on the question; `metrics` are all of METRICS by default.

    Raises:
        NotApplicable: the method is not for this model or these inputs.
        MethodFailed: the method raised, or its maps are not what they should be.
        UnknownName: no metric of that name.
    """
    for name in metrics or ():
        if name not in METRICS:
            raise UnknownName.of("metric of explanations", name, METRICS)
    # The first call also reads libraries, which is no cost of the method.
    explainer(method, question.model, question.background)(question.x[:1], question.target[:1])
    began = time.perf_counter()
    gradients = method.plugin.facts["needs"] >= Access.GRADIENTS
    with counted(question.model if gradients else None) as passes:
        explain = explainer(method, question.model, question.background, passes)
        maps = explain(question.x, question.target)
    seconds = time.perf_counter() - began
    count = len(question.x)
    cost = Cost(seconds, passes.forwards / count, passes.backwards / count, 0.0)
    influence = bool(method.plugin.facts["influence"])
    explained = Explained(question.x, question.target, maps, influence)
    compared = str(method.options.get("baseline", question.baseline))
    posed = Posed(question, method, explained, question.point(compared))
    measured, skipped = {}, {}
    for name in metrics or METRICS:
        try:
            measured[name] = METRICS[name](posed)
        except NotApplicable as reason:
            skipped[name] = str(reason)
        except MethodFailed as reason:
            skipped[name] = f"failed: {reason}"
    return Examined(method.text, explained, measured, skipped, cost)


def beside_nothing(results: Mapping[str, Examined]) -> dict[str, dict[str, Difference]]:
    """Return metric → method → its lead over the random row, paired, Holm over the methods.

    Raises:
        BadInput: there is no random row among the results.
    """
    nothing = next((r for r in results.values() if r.method.split(":")[0] == NOTHING), None)
    if nothing is None:
        raise BadInput(f"there is no row {NOTHING!r} to compare with: examine it too")
    table: dict[str, dict[str, Difference]] = {}
    for metric in [name for name in nothing.measured if name not in PRICES]:
        floor = nothing.measured[metric]
        names = [
            name
            for name, result in results.items()
            if metric in result.measured and result is not nothing
        ]
        gaps = []
        for name in list(names):
            try:
                gaps.append(compare(results[name].measured[metric], floor))
            except NotApplicable:
                names.remove(name)  # no sample has a value of both: nothing to compare
        table[metric] = dict(zip(names, holm(gaps), strict=True))
    return table
