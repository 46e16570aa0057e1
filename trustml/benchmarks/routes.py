"""The exam of routes and safeguards: every way in, without a safeguard and with each of them."""

from dataclasses import replace

from trustml import registry
from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.plan import Case, Plan, anywhere, labels, unique
from trustml.benchmarks.route_cases import check_claims, examine, read_file
from trustml.benchmarks.route_guard import NONE, guarded_by, monitor_of
from trustml.benchmarks.route_shards import make_shard, shards
from trustml.contracts import Dataset
from trustml.errors import BadOption, UnknownName
from trustml.options import split_spec
from trustml.recipes import Choice, choose, read_recipe, split_recipe
from trustml.records import plain

RETRAINING, ALL = "retraining", "all"
GROUPS = ("scanner", "envelope", RETRAINING, ALL)


def check(plan: Plan) -> Plan:
    """Return the plan with groups resolved, and canonical routes, poisons and safeguards.

    Raises:
        UsageError: a name or an option that is not allowed, or safeguards that cannot work where
            they are put.
    """
    routes, poisons = _resolved(plan)
    for poison in poisons:
        check_poison(plan, poison)
    return replace(
        plan,
        routes=unique(anywhere(route).text for route in routes),
        poisons=unique(anywhere(poison).text for poison in poisons),
        defenses=unique(_defense(plan, text) for text in plan.defenses),
    )


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return for each route and poison a row without a safeguard, then one for each of them."""
    ways = [("route", choose("route", text)) for text in plan.routes]
    ways += [("poison", choose("poison", text)) for text in plan.poisons]
    guards = (NONE, *plan.defenses)
    of_ways = labels(way.plugin.name for _, way in ways)
    of_guards = labels(NONE if guard == NONE else _name(guard) for guard in guards)
    facts = {"safeguards": list(guards)}
    return [
        Case(
            f"{label}-{of_way}-{of_guard}", kind, way.plugin.name, way.text,
            {**plain(way.options), "safeguard": guard}, model, seed, facts,
        )
        for (kind, way), of_way in zip(ways, of_ways, strict=True)
        for guard, of_guard in zip(guards, of_guards, strict=True)
    ]  # fmt: skip


def _resolved(plan: Plan) -> tuple[list[Choice], list[Choice]]:
    """Return the routes and poisons that the plan's words stand for."""
    routes: list[Choice] = []
    poisons = [choose("poison", text) for text in plan.poisons]
    every = registry.names("route")
    for text in plan.routes:
        name = split_spec(text)[0]
        if name in GROUPS and name != text:
            raise BadOption(f"--route {text}: {name} is a group of routes, and has no options")
        if name in (RETRAINING, ALL):
            poisons += [choose("poison", other) for other in registry.names("poison")]
        if name in GROUPS:
            group = [choose("route", other) for other in every]
            routes += [r for r in group if name in (ALL, r.plugin.facts["via"])]
        elif name in registry.names("poison"):
            poisons.append(choose("poison", text))
        elif name not in every and "/" not in name:
            raise UnknownName.of("route", name, [*GROUPS, *every, *registry.names("poison")])
        else:
            routes.append(choose("route", text))
    return routes, poisons


def check_poison(plan: Plan, poison: Choice) -> None:
    """Refuse a poison of models that learn nothing any more, or of no share of the data.

    Raises:
        BadOption: it is one of these.
    """
    name, rate = poison.plugin.name, poison.options.get("rate")
    if isinstance(rate, float | int) and not 0 <= rate <= 1:
        raise BadOption(f"{name}: rate={rate:g} is not allowed: it is a share from 0 to 1")
    for text in plan.models:
        recipe = read_recipe(text)
        if recipe.weights is not None:
            raise BadOption(
                f"--poison {name}: it works in training, and {recipe.name} has its weights from "
                f"{recipe.weights}: leave out weights=, or examine it with --route"
            )


def _defense(plan: Plan, text: str) -> str:
    """Return the canonical text of a chain of safeguards that works behind each model.

    Raises:
        UsageError: it does not; the message says what to do.
    """
    if text == NONE:
        raise BadOption("--defense none: the row without a safeguard is always there; leave it out")
    parts = [choose("safeguard", part) for part in split_recipe(text)]
    if monitor_of(text) is None:
        watching = [c.plugin.name for c in parts if c.plugin.facts["stage"] == "monitoring"]
        if watching:
            raise BadOption(
                f"--defense {text}: {watching[0]} watches beside the model and cannot be chained: "
                f"give it a --defense of its own, and put the others into --model"
            )
        for model in plan.models:
            guarded_by(text, model)
    return "+".join(anywhere(part).text for part in parts)


def _name(guard: str) -> str:
    return "+".join(split_spec(part)[0] for part in split_recipe(guard))


ROUTES = Discipline(
    kinds=("route", "poison"),
    # The poisons of an inspection are its own, unless a safeguard is to be tried on them too.
    wanted=lambda plan: bool(
        plan.routes or (plan.poisons and (plan.defenses or not plan.inspections))
    ),
    checked=check,
    cases=cases,
    size=lambda plan: (len(plan.routes) + len(plan.poisons)) * (1 + len(plan.defenses)),
    examined=examine,
    verified=check_claims,
    read=read_file,
    apart=lambda plan, case: "all",
    shards=shards,
    made=make_shard,
)
