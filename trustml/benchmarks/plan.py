"""The plan: what a run will do, with every name and option checked before anything runs."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from trustml import registry
from trustml.contracts import Dataset, Json, Norm
from trustml.errors import BadInput, BadOption, UnknownName, UsageError
from trustml.geometry import diameter
from trustml.options import read, write
from trustml.recipes import Choice, choose, read_recipe

PLAN = "plan.json"
NOISE, ALL = "noise", "all"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: models × norms × epsilons × attacks on one dataset, in canonical texts with defaults.

    Args:
        epsilons: none means the data's usual budget for each norm.
        target: "none", "next" (the class after the true one), or a class number.
        limit: only the first that many test samples; 0 is all.
        shard: (index, count): only every count-th sample, beginning with index.
        order: "given" or "reversed" order of the samples; verdicts do not depend on it.
        budget: forward passes a sample at most for each attack; 0 is no bound.
        curve: look for the nearest adversarial input, whatever its distance: the whole box is
            allowed, `epsilons` must be empty, and only minimum-norm attacks will do.
    """

    models: tuple[str, ...]
    attacks: tuple[str, ...]
    data: str = "digits"
    norms: tuple[Norm, ...] = ("linf",)
    epsilons: tuple[float, ...] = ()
    target: str = "none"
    seed: int = 0
    limit: int = 0
    batch_size: int = 512
    shard: tuple[int, int] = (0, 1)
    order: str = "given"
    budget: int = 0
    curve: bool = False
    device: str = "auto"
    data_dir: str | None = None
    plugins: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many cases it has."""
        threats = len(self.norms) * max(1, len(self.epsilons))
        return len(self.models) * threats * (len(self.attacks) + 1)

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True, slots=True)
class Case:
    """One row to be: an attack on a model under a threat. `attack` is None for all together."""

    name: str
    model: str
    norm: Norm
    epsilon: float
    attack: str | None


def checked(plan: Plan) -> Plan:
    """Return the plan with canonical texts and the noise row in front.

    Raises:
        UsageError: a name, an option or a number that is not allowed; the message says what is.
    """
    for path in plan.plugins:
        registry.load_file(path)
    if not plan.models:
        raise BadOption("no model to examine; name one with --model")
    for norm in plan.norms:
        if norm not in get_args(Norm):
            raise UnknownName.of("norm", norm, get_args(Norm))
    _check_numbers(plan)
    attacks = [choose("attack", text) for text in plan.attacks]
    for attack in attacks:
        for norm in plan.norms:
            _check_norm(attack, norm)
        if plan.target != "none" and not attack.plugin.facts["targeted"]:
            raise BadOption(
                f"attack {attack.plugin.name!r} cannot aim at a class; leave --target out"
            )
    if plan.curve:
        _check_curve(plan, attacks)
    elif not any(attack.plugin.name == NOISE for attack in attacks):
        attacks.insert(0, choose("attack", NOISE))
    models = [read_recipe(text) for text in plan.models]
    return replace(
        plan,
        norms=_unique(plan.norms),
        epsilons=_unique(plan.epsilons),
        models=_unique(replace(r, model=_anywhere(r.model)).text for r in models),
        attacks=_unique(_anywhere(attack).text for attack in attacks),
        data=_anywhere(choose("data", plan.data)).text,
        data_dir=plan.data_dir and str(Path(plan.data_dir).resolve()),
        plugins=tuple(str(Path(path).resolve()) for path in plan.plugins),
    )


def read_plan(folder: Path) -> Plan:
    """Return the plan of a run.

    Raises:
        BadInput: the folder holds no run, or its plan is damaged.
    """
    if not (folder / PLAN).is_file():
        raise BadInput(f"{folder} holds no run: there is no {PLAN} in it")
    try:
        return from_json((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError, BadInput) as error:
        raise BadInput(f"{folder / PLAN}: {error}") from error


def from_json(text: str) -> Plan:
    """Return the plan that `Plan.to_json` wrote.

    Raises:
        BadInput: the text is not a plan.
    """
    try:
        found = json.loads(text).items()
        facts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found}
        plan = Plan(**facts)
        for name, kind in get_type_hints(Plan).items():
            value = getattr(plan, name)
            if read(write(value), kind, name) != value:
                raise ValueError(f"{name} is {value!r}")
        _, _ = plan.shard
    except (ValueError, TypeError, AttributeError, UsageError) as error:
        raise BadInput(f"not a plan ({error})") from error
    return plan


def cases(plan: Plan, dataset: Dataset) -> list[Case]:
    """Return the cases in the order in which they run.

    Raises:
        BadInput: the data have no usual budget for a norm and the plan names no epsilon.
        BadOption: the data have no such class to aim at.
    """
    classes = dataset.test.classes
    if plan.target.isdecimal() and int(plan.target) >= classes:
        raise BadOption(f"--target {plan.target}: {plan.data} has classes 0 to {classes - 1}")
    found: list[Case] = []
    model_names = _labels([read_recipe(text).name for text in plan.models])
    attack_names = _labels([ALL, *(choose("attack", text).plugin.name for text in plan.attacks)])
    for model, model_name in zip(plan.models, model_names, strict=True):
        for norm in plan.norms:
            epsilons = _epsilons(plan, norm, dataset)
            sizes = _labels([f"{epsilon:.6g}" for epsilon in epsilons])
            for epsilon, size in zip(epsilons, sizes, strict=True):
                group = f"{model_name}-{norm}-{size}"
                for text, name in zip(plan.attacks, attack_names[1:], strict=True):
                    found.append(Case(f"{group}-{name}", model, norm, epsilon, text))
                found.append(Case(f"{group}-{ALL}", model, norm, epsilon, None))
    return found


def threat_facts(plan: Plan, case: Case) -> dict[str, Json]:
    """Return what a case's record says of its threat, but for the box, which the data know."""
    return {
        "norm": case.norm,
        "epsilon": case.epsilon,
        "target": plan.target,
        "whole_box": plan.curve,
    }


def _epsilons(plan: Plan, norm: Norm, dataset: Dataset) -> tuple[float, ...]:
    if plan.curve:
        test = dataset.test
        return (diameter(norm, test.high - test.low, test.x[0].numel()),)
    if not plan.epsilons and norm not in dataset.budgets:
        raise BadInput(f"{plan.data} has no usual budget for {norm}; give one with --epsilon")
    return plan.epsilons or (dataset.budgets[norm],)


def _anywhere(choice: Choice) -> Choice:
    """Return the choice with its files named so that they are found from any folder."""
    files = {
        name: str(Path(value).expanduser().resolve())
        for name, value in choice.options.items()
        if name in ("path", "test_path", "weights") and value and Path(value).expanduser().exists()
    }
    return Choice(choice.plugin, {**choice.options, **files})


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


def check_seed(seed: int) -> None:
    """Check that torch takes the seed.

    Raises:
        BadOption: it does not.
    """
    if seed < 0:
        raise BadOption(f"--seed must be 0 or more, not {seed}")
    if seed >= 1 << 63:
        raise BadOption(f"--seed must be below 2^63, not {seed}")


def _check_numbers(plan: Plan) -> None:
    for epsilon in plan.epsilons:
        if not (epsilon > 0 and math.isfinite(epsilon)):
            raise BadOption(f"--epsilon must be a finite number above 0, not {epsilon}")
    check_seed(plan.seed)
    for name, least in (("limit", 0), ("batch_size", 1), ("budget", 0)):
        if getattr(plan, name) < least:
            raise BadOption(
                f"--{name.replace('_', '-')} must be {least} or more, not {getattr(plan, name)}"
            )
    index, count = plan.shard
    if count < 1 or not 0 <= index < count:
        raise BadOption(
            f"--shard {index}/{count}: parts are numbered from 0, so write 0/{max(count, 1)} to "
            f"{max(count, 1) - 1}/{max(count, 1)}"
        )
    if plan.order not in ("given", "reversed"):
        raise UnknownName.of("order", plan.order, ("given", "reversed"))
    if plan.target not in ("none", "next") and not plan.target.isdecimal():
        raise BadOption(f"--target must be none, next or a class number, not {plan.target!r}")


def _check_norm(attack: Choice, norm: Norm) -> None:
    known = attack.plugin.facts["norms"]
    if norm not in known:
        able = [p.name for p in registry.all_of("attack") if norm in p.facts["norms"]]
        raise BadOption(
            f"attack {attack.plugin.name!r} does not know {norm}, just {', '.join(known)}; "
            f"these know it: {', '.join(able)}"
        )


def _unique(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _labels(names: list[str]) -> list[str]:
    """Return file-safe labels; a name that stands more than once is numbered."""
    seen: dict[str, int] = {}
    labels = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        safe = name.replace("/", ".")
        labels.append(safe if seen[name] == 1 else f"{safe}-{seen[name]}")
    return labels
