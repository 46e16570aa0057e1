"""Every exam that there is; from a plan to its cases."""

from collections.abc import Iterable
from dataclasses import replace

from trustml import registry
from trustml.benchmarks.corruption import CORRUPTION
from trustml.benchmarks.detection import DETECTION
from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.explanation import EXPLANATION
from trustml.benchmarks.inspection import INSPECTION
from trustml.benchmarks.plan import Case, Plan, canonical, check_common, labels
from trustml.benchmarks.pooling import pools
from trustml.benchmarks.robustness import ROBUSTNESS
from trustml.benchmarks.routes import ROUTES
from trustml.benchmarks.stealing import STEALING
from trustml.contracts import Dataset
from trustml.errors import BadOption
from trustml.recipes import read_recipe

EXAMS: tuple[Discipline, ...] = (
    ROBUSTNESS, CORRUPTION, DETECTION, EXPLANATION, STEALING, ROUTES, INSPECTION
)  # fmt: skip


def checked(plan: Plan) -> Plan:
    """Return the plan with canonical texts, every name and option checked before anything runs.

    Raises:
        UsageError: a name, an option or a number that is not allowed; the message says what is.
    """
    for path in plan.plugins:
        registry.load_file(path)
    check_common(plan)
    asked = [exam for exam in EXAMS if exam.wanted(plan)]
    if plan.defenses and ROUTES not in asked:
        raise BadOption(
            "--defense is set against something: give --route or --poison too, or examine the "
            f"guarded model by --model {plan.models[0].split(':')[0]}+{plan.defenses[0]}"
        )
    if not asked:
        raise BadOption(
            "nothing to examine by: name an --attack, --detector, --attribution, --stealer, "
            "--route, --poison, --inspection or --corruption"
        )
    for exam in asked:
        plan = exam.checked(plan)
    return replace(plan, **canonical(plan))


def cases(plan: Plan, dataset: Dataset) -> list[Case]:
    """Return the cases in the order in which they run: model by model, seed by seed.

    Raises:
        UsageError: the data do not fit what is asked.
    """
    found: list[Case] = []
    names = labels(read_recipe(text).name for text in plan.models)
    for model, label in zip(plan.models, names, strict=True):
        of_seeds = []
        for seed in range(plan.seed, plan.seed + plan.seeds):
            own = f"{label}-seed{seed}" if plan.seeds > 1 else label
            asked = [exam for exam in EXAMS if exam.wanted(plan)]
            of_seeds.append(
                _told_apart(c for e in asked for c in e.cases(plan, dataset, model, own, seed))
            )
        found += [case for of_seed in of_seeds for case in of_seed]
        found += pools(of_seeds, label) if plan.seeds > 1 else []
    return found


def _told_apart(given: Iterable[Case]) -> list[Case]:
    """Return the cases, each with a name of its own: two exams may know a plugin by one name."""
    found: dict[str, Case] = {}
    for case in given:
        name = f"{case.name}-{case.kind}" if case.name in found else case.name
        found[name] = replace(case, name=name)
    return list(found.values())


def size(plan: Plan) -> int:
    """Return how many cases a checked plan has."""
    each = sum(exam.size(plan) for exam in EXAMS if exam.wanted(plan))
    return len(plan.models) * each * (plan.seeds + 1 if plan.seeds > 1 else 1)


def exam_of(kind: str) -> Discipline:
    """Return the exam that makes records of the kind."""
    return next(exam for exam in EXAMS if kind in exam.kinds)
