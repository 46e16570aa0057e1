"""The exam of detectors: errors foretold, outsiders told apart, and how well it is calibrated."""

from dataclasses import replace
from typing import get_args

from trustml.benchmarks.detected import asked_at_most, check_claims, examine, read
from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.outside import names
from trustml.benchmarks.plan import Case, Plan, labels, unique
from trustml.benchmarks.robustness import epsilons_of
from trustml.benchmarks.stolen import stolen_or
from trustml.chains import Chain, read_chain
from trustml.contracts import Dataset, Json, Norm
from trustml.errors import BadOption
from trustml.recipes import read_recipe
from trustml.records import plain
from trustml.registry import all_of

CALIBRATION, ALL = "calibration", "all"


def check(plan: Plan) -> Plan:
    """Return the plan with canonical detectors.

    Raises:
        UsageError: a name or an option that is not allowed, or a chain that cannot work.
    """
    if not 0 < plan.false_alarms < 1:
        raise BadOption(f"--false-alarms must lie between 0 and 1, not {plan.false_alarms}")
    if plan.aware and (plan.budget or plan.target != "none"):
        raise BadOption("--aware has passes and a goal of its own: leave --budget and --target out")
    if plan.aware and set(plan.norms) - set(get_args(Norm)):
        raise BadOption(
            f"--aware looks for inputs in balls of {', '.join(get_args(Norm))}, not of "
            f"{', '.join(set(plan.norms) - set(get_args(Norm)))}"
        )
    texts = [one for text in plan.detectors for one in _named(text)]
    return replace(
        plan,
        detectors=unique(read_chain(text).text for text in texts),
        outside=unique(one for name in plan.outside for one in stolen_or(name)),
    )


def _named(text: str) -> list[str]:
    """Return the text, or the name of every detector for "all"."""
    return [plugin.name for plugin in all_of("detector")] if text == ALL else [text]


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return a row for the model's calibration, and one for each detector.

    Raises:
        UsageError: an out-of-distribution set that is not known.
    """
    recipe = read_recipe(model)
    served = recipe.is_deployed and recipe.model.plugin.facts["takes"] == "url"
    most = asked_at_most(plan, dataset) if served else len(dataset.train)
    learnt, held = min(most, len(dataset.train)), min(most, len(dataset.validation))
    # What is told apart, and what the detectors saw of it before: nothing from outside.
    sets: dict[str, Json] = {
        "outside": list(names(plan, dataset)),
        "learnt from": f"{learnt} training samples",
        "tuned on": f"the first {held // 2} validation samples",
        "threshold from": f"the other {(held + 1) // 2} validation samples",
    }
    if plan.aware:
        sets["aware"] = [
            [norm, epsilon] for norm in plan.norms for epsilon in epsilons_of(plan, norm, dataset)
        ]
    chains = [read_chain(text) for text in plan.detectors]
    own = labels([CALIBRATION, *(chain.name for chain in chains)])[1:]
    first = Case(f"{label}-{CALIBRATION}", CALIBRATION, CALIBRATION, "", {}, model, seed, sets)
    return [
        first,
        *(
            Case(
                f"{label}-{name}", "detector", chain.name, chain.text, plain(_options(chain)),
                model, seed, sets,
            )
            for name, chain in zip(own, chains, strict=True)
        ),
    ]  # fmt: skip


def _options(chain: Chain) -> dict[str, Json]:
    """Return every option, with the name of its part before it where there are several parts."""
    if not chain.front_ends:
        return dict(chain.back_end.options)
    return {
        f"{choice.plugin.name}.{name}": value
        for choice in chain.choices
        for name, value in choice.options.items()
    }


DETECTION = Discipline(
    kinds=("calibration", "detector"),
    wanted=lambda plan: bool(plan.detectors),
    checked=check,
    cases=cases,
    size=lambda plan: 1 + len(plan.detectors),
    examined=examine,
    verified=check_claims,
    read=read,
    apart=lambda plan, case: "all",
    # Inputs that fooled the model in this run are told apart, too.
    after=lambda case, others: [other.name for other in others if other.kind == "attack"],
)
