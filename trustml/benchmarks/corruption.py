"""The exam of corruptions: accuracy at five severities of each, and over all of them."""

from dataclasses import replace

from trustml.benchmarks.corruption_cases import check_claims, examine, read
from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.plan import Case, Plan, labels, unique
from trustml.contracts import Dataset
from trustml.corrupting import check_pictures
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.recipes import choose, read_recipe
from trustml.records import plain
from trustml.registry import all_of

ALL = "all"


def check(plan: Plan) -> Plan:
    """Return the plan with canonical corruptions and baseline.

    Raises:
        UsageError: a name or an option that is not allowed.
    """
    texts = [one for text in plan.corruptions for one in _named(text)]
    baseline = plan.corruption_baseline
    return replace(
        plan,
        corruptions=unique(choose("corruption", text).text for text in texts),
        corruption_baseline=read_recipe(baseline).text if baseline else "",
    )


def wanted(plan: Plan) -> bool:
    """Return whether there is a corruption to examine by.

    Raises:
        BadOption: a baseline is named, and no corruption.
    """
    if plan.corruption_baseline and not plan.corruptions:
        raise BadOption("--corruption-baseline is compared with: name a --corruption, or all")
    return bool(plan.corruptions)


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return a row for each corruption, and one over all of them.

    Raises:
        BadInput: the data are no pictures that can be corrupted.
    """
    try:
        check_pictures("--corruption", dataset.test.x[:1])
    except NotApplicable as error:
        raise BadInput(f"{plan.data}: {error}") from error
    chosen = [choose("corruption", text) for text in plan.corruptions]
    # The row over all of them has a name that no corruption may have.
    names = labels([ALL, *(one.plugin.name for one in chosen)])[1:]
    facts = {"corruptions": [one.text for one in chosen], "baseline": plan.corruption_baseline}
    found = [
        Case(
            f"{label}-{name}", "corruption", one.plugin.name, one.text, plain(one.options), model,
            seed, facts,
        )
        for name, one in zip(names, chosen, strict=True)
    ]  # fmt: skip
    return [*found, Case(f"{label}-corruptions", "corruptions", ALL, "", None, model, seed, facts)]


def _named(text: str) -> list[str]:
    """Return the text, or the name of every corruption for "all"."""
    return [plugin.name for plugin in all_of("corruption")] if text == ALL else [text]


CORRUPTION = Discipline(
    kinds=("corruption", "corruptions"),
    wanted=wanted,
    checked=check,
    cases=cases,
    size=lambda plan: len(plan.corruptions) + 1,
    examined=examine,
    verified=check_claims,
    read=read,
    # A baseline is made once, here; the row over all of them reads the others' files.
    apart=lambda plan, case: (
        "no" if plan.corruption_baseline or case.kind == "corruptions" else "all"
    ),
)
