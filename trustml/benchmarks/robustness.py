"""The exam of robustness: what is proved, noise, each attack, and all of them together."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from trustml import beyond, registry
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.attack_claims import check_claims
from trustml.benchmarks.attack_shards import make_shard, shards
from trustml.benchmarks.attacked import examine
from trustml.benchmarks.discipline import Apart, Discipline
from trustml.benchmarks.plan import Case, Plan, anywhere, labels, unique
from trustml.benchmarks.setting import examined
from trustml.contracts import Dataset, Json, Measure, Norm
from trustml.errors import BadInput, BadOption, NotApplicable
from trustml.grid import check_on_grid, check_radius
from trustml.options import write
from trustml.recipes import Choice, choose
from trustml.records import plain
from trustml.threats import Lp

NOISE, ALL, CERTIFICATE = "noise", "all", "certificate"


def check(plan: Plan) -> Plan:
    """Return the plan with canonical attacks and the noise row in front.

    Raises:
        UsageError: a name, an option or a number that is not allowed; the message says what is.
    """
    for epsilon in plan.epsilons:
        if not (epsilon > 0 and math.isfinite(epsilon)):
            raise BadOption(f"--epsilon must be a finite number above 0, not {epsilon}")
    if plan.target not in ("none", "next") and not plan.target.isdecimal():
        raise BadOption(f"--target must be none, next or a class number, not {plan.target!r}")
    attacks = [choose("attack", text) for text in plan.attacks]
    for attack in attacks:
        for norm in plan.norms:
            _check_norm(attack, norm)
        if plan.target != "none" and not attack.plugin.facts["targeted"]:
            raise BadOption(
                f"attack {attack.plugin.name!r} cannot aim at a class; leave --target out"
            )
    if plan.curve and plan.surrogates:
        raise BadOption(
            "--curve follows the border of the model itself, which --surrogate hides: leave one out"
        )
    if plan.curve:
        _check_curve(plan, attacks)
    elif not any(attack.plugin.name == NOISE for attack in attacks):
        attacks.insert(0, choose("attack", NOISE))
    return replace(
        plan,
        epsilons=unique(plan.epsilons),
        attacks=unique(anywhere(attack).text for attack in attacks),
    )


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return a table's rows for each norm and epsilon: the certificate, the attacks, all of them.

    Raises:
        BadInput: the data have no usual budget for a norm and the plan names no epsilon, or an
            epsilon allows any change at all.
        BadOption: the data have no such class to aim at.
    """
    classes = dataset.test.classes
    if plan.target.isdecimal() and int(plan.target) >= classes:
        raise BadOption(f"--target {plan.target}: {plan.data} has classes 0 to {classes - 1}")
    found: list[Case] = []
    if plan.grid != "none":
        _check_grid(plan, dataset)
    for norm in plan.norms:
        epsilons = epsilons_of(plan, norm, dataset)
        sizes = labels(f"{epsilon:.6g}" for epsilon in epsilons)
        for epsilon, size in zip(epsilons, sizes, strict=True):
            threat = _threat_facts(plan, norm, epsilon)
            found += _table(plan, model, f"{label}-{norm}-{size}", seed, threat)
    return found


def size(plan: Plan) -> int:
    """Return how many cases each model has with each seed."""
    threats = [norm for norm in plan.norms for _ in plan.epsilons or (0,)]
    return sum(len(plan.attacks) + 1 + _certifies(plan, norm) for norm in threats)


def _table(
    plan: Plan, model: str, group: str, seed: int, threat: Mapping[str, Json]
) -> Iterator[Case]:
    """Yield the rows of one table."""
    attacks = [choose("attack", text) for text in plan.attacks]
    names = labels([ALL, CERTIFICATE, *(attack.plugin.name for attack in attacks)])[2:]
    if _certifies(plan, threat["norm"]):
        name = f"{group}-{CERTIFICATE}"
        yield Case(name, CERTIFICATE, CERTIFICATE, "", None, model, seed, threat)
    for name, attack in zip(names, attacks, strict=True):
        yield Case(
            f"{group}-{name}", "attack", attack.plugin.name, attack.text, plain(attack.options),
            model, seed, threat,
        )  # fmt: skip
    yield Case(f"{group}-{ALL}", "union", ALL, "", None, model, seed, threat)


def _certifies(plan: Plan, norm: Measure) -> bool:
    provable = norm in get_args(Norm) and norm != "l0"
    return plan.certify != "off" and not plan.curve and provable


def _threat_facts(plan: Plan, norm: Measure, epsilon: float) -> dict[str, Json]:
    facts = {"norm": norm, "epsilon": epsilon, "target": plan.target, "whole_box": plan.curve}
    extra: dict[str, Json] = {"grid": plan.grid} if plan.grid != "none" else {}
    return facts | extra | ({"surrogates": list(plan.surrogates)} if plan.surrogates else {})


def epsilons_of(plan: Plan, norm: Measure, dataset: Dataset) -> tuple[float, ...]:
    """Return the budgets in the norm: those of the plan, or the usual one of the data.

    Raises:
        BadInput: there is no usual one, or one of them allows any change at all.
    """
    test = dataset.test
    if norm in beyond.RULERS:
        return _epsilons_beyond(plan, norm, dataset)
    widest = beyond.widest(norm, test.high - test.low, tuple(test.x.shape[1:]))
    if plan.curve:
        return (widest,)
    usual = {str(name): epsilon for name, epsilon in dataset.budgets.items()}
    if not plan.epsilons and norm not in usual:
        raise BadInput(f"{plan.data} has no usual budget for {norm}; give one with --epsilon")
    for epsilon in plan.epsilons:
        if epsilon >= widest:
            raise BadInput(
                f"--epsilon {write(epsilon)} lets any input become any other: the box of "
                f"{plan.data} is {widest:.4g} wide in {norm}; give less, or --curve for them all"
            )
    return plan.epsilons or (usual[norm],)


def _epsilons_beyond(plan: Plan, norm: Measure, dataset: Dataset) -> tuple[float, ...]:
    """Return the budgets in a measure that is no norm: those of the plan, or the usual one.

    Raises:
        BadInput: the measure does not know such data, or one of the budgets is no budget for them.
    """
    epsilons, one = plan.epsilons or (beyond.RULERS[norm].usual,), dataset.test.x[:1]
    for epsilon in epsilons:
        try:
            beyond.check_epsilon(norm, epsilon, one)
        except NotApplicable as error:
            raise BadInput(f"--norm {norm} on {plan.data}: {error}") from error
    return epsilons


def _check_curve(plan: Plan, attacks: list[Choice]) -> None:
    if plan.epsilons:
        raise BadOption("--curve covers every epsilon; leave --epsilon out")
    for attack in attacks:
        if not attack.plugin.facts["minimum_norm"]:
            able = [p.name for p in registry.all_of("attack") if p.facts["minimum_norm"]]
            raise BadOption(
                f"--curve needs minimum-norm attacks; {attack.plugin.name!r} is none, "
                f"these are: {', '.join(able)}"
            )


def _check_grid(plan: Plan, dataset: Dataset) -> None:
    """Check that the grid is there for the plan's norms, and that the samples lie on it.

    Raises:
        BadOption: a measure that is no norm.
        BadInput: a sample off the grid.
    """
    strange = [norm for norm in plan.norms if norm not in get_args(Norm)]
    if strange:
        raise BadOption(f"--grid 8-bit knows {', '.join(get_args(Norm))}, not {strange[0]}")
    test = examined(plan, dataset.test)
    for norm in plan.norms:
        for epsilon in epsilons_of(plan, norm, dataset):
            check_radius(beyond.threat(norm, epsilon, test.low, test.high, False))
    check_on_grid(test.x, Lp("linf", 0.0, test.low, test.high), plan.data.split(":")[0])


def _check_norm(attack: Choice, norm: Measure) -> None:
    known = attack.plugin.facts["norms"]
    if norm not in known:
        able = [p.name for p in registry.all_of("attack") if norm in p.facts["norms"]]
        raise BadOption(
            f"attack {attack.plugin.name!r} does not know {norm}, just {', '.join(known)}; "
            f"these know it: {', '.join(able)}; or give --norm {known[0]}"
        )


_APART: dict[str, Apart] = {"certificate": "all", "attack": "shards", "union": "no"}


def _after(case: Case, others: Sequence[Case]) -> list[str]:
    """Return the certificate of an attack's threat: what is proved is not attacked."""
    attack = case.kind == "attack"
    return [
        other.name
        for other in others
        if attack and other.kind == "certificate" and other.threat == case.threat
    ]


ROBUSTNESS = Discipline(
    kinds=("certificate", "attack", "union"),
    wanted=lambda plan: bool(plan.attacks),
    checked=check,
    cases=cases,
    size=size,
    examined=examine,
    verified=check_claims,
    read=on_disk.read,
    # Surrogates are where the run is.
    apart=lambda plan, case: "no" if plan.surrogates else _APART[case.kind],
    after=_after,
    shards=shards,
    made=make_shard,
)
