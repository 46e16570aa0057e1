"""The exam of inspections: backdoors looked for in a model, beside honest models of its recipe."""

from dataclasses import replace

from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.inspection_cases import check_claims, examine, make_shard, read, shards
from trustml.benchmarks.plan import Case, Plan, anywhere, labels, unique
from trustml.benchmarks.routes import check_poison
from trustml.contracts import Dataset
from trustml.errors import BadOption
from trustml.recipes import choose, read_recipe
from trustml.records import plain
from trustml.registry import all_of

NONE, ALL = "none", "all"


def check(plan: Plan) -> Plan:
    """Return the plan with canonical inspections and poisons.

    Raises:
        UsageError: a name or an option that is not allowed, or so few controls that no model could
            ever raise an alarm.
    """
    if not 0 < plan.false_alarms < 1:
        raise BadOption(f"--false-alarms must lie between 0 and 1, not {plan.false_alarms}")
    least = least_controls(plan.false_alarms)
    if plan.controls < least:
        raise BadOption(
            f"--controls {plan.controls} is too few for --false-alarms {plan.false_alarms:g}: the "
            f"oddest of {plan.controls + 1} models is no rarer than 1 in {plan.controls + 1}; give "
            f"--controls {least} or more, or a higher rate"
        )
    for text in plan.poisons:
        check_poison(plan, choose("poison", text))
    texts = [one for text in plan.inspections for one in _named(text)]
    return replace(
        plan,
        controls_of=controls_of(plan.controls_of),
        inspections=unique(choose("inspection", text).text for text in texts),
        poisons=unique(anywhere(choose("poison", text)).text for text in plan.poisons),
    )


def least_controls(rate: float) -> int:
    """Return how many honest models it takes at least, so that a p-value can reach the rate."""
    count = 1
    while 1 / (count + 1) > rate:
        count += 1
    return count


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return for each inspection a row for the model as it is, and one for each poison."""
    looks = [choose("inspection", text) for text in plan.inspections]
    ways = [NONE, *plan.poisons]
    of_looks = labels(look.plugin.name for look in looks)
    of_ways = labels(NONE if way == NONE else choose("poison", way).plugin.name for way in ways)
    facts = {"controls": plan.controls, "false alarms": plan.false_alarms}
    return [
        Case(
            f"{label}-{of_look}-of-{of_way}", "inspection", look.plugin.name, look.text,
            {**plain(look.options), "poison": way}, model, seed, facts,
        )
        for look, of_look in zip(looks, of_looks, strict=True)
        for way, of_way in zip(ways, of_ways, strict=True)
    ]  # fmt: skip


def controls_of(text: str) -> str:
    """Return the recipe of the honest models in canonical text, or "" where none is named.

    Raises:
        UsageError: there is no such recipe.
        BadOption: models of it cannot be trained.
    """
    if not text:
        return ""
    recipe = read_recipe(text)
    if recipe.is_deployed or recipe.weights is not None:
        raise BadOption(
            f"--controls-of {text} is one finished model, and honest ones are trained: name a "
            f"recipe such as cnn"
        )
    return recipe.text


def _named(text: str) -> list[str]:
    """Return the text, or the name of every inspection for "all"."""
    return [plugin.name for plugin in all_of("inspection")] if text == ALL else [text]


INSPECTION = Discipline(
    kinds=("inspection",),
    wanted=lambda plan: bool(plan.inspections),
    checked=check,
    cases=cases,
    size=lambda plan: len(plan.inspections) * (1 + len(plan.poisons)),
    examined=examine,
    verified=check_claims,
    read=read,
    apart=lambda plan, case: "all",
    shards=shards,
    made=make_shard,
)
