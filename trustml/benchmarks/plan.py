"""The plan: what a run will do, with every name and option checked before anything runs."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import get_args

from trustml import registry
from trustml.contracts import Norm
from trustml.errors import BadInput, BadOption, UnknownName
from trustml.recipes import Choice, Recipe, choose, read_recipe

NOISE = "noise"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: models × norms × epsilons × attacks on one dataset. Texts are canonical, defaults included.

    Args:
        epsilons: none means the data's usual budget for each norm.
        target: "none", "next" (the class after the true one), or a class number.
        limit: only the first that many test samples; 0 is all.
        shard: (index, count): only every count-th sample, beginning with index.
        order: "given" or "reversed" order of the samples; verdicts do not depend on it.
        budget: forward passes a sample at most for each attack; 0 is no bound.
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
    device: str = "auto"
    data_dir: str | None = None
    plugins: tuple[str, ...] = ()

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
    if not any(attack.plugin.name == NOISE for attack in attacks):
        attacks.insert(0, choose("attack", NOISE))
    changes = {
        "models": _unique(read_recipe(text).text for text in plan.models),
        "attacks": _unique(attack.text for attack in attacks),
        "data": choose("data", plan.data).text,
    }
    return Plan(**{f.name: changes.get(f.name, getattr(plan, f.name)) for f in fields(Plan)})


def from_json(text: str) -> Plan:
    """Return the plan that `Plan.to_json` wrote.

    Raises:
        BadInput: the text is not a plan.
    """
    try:
        facts = json.loads(text)
        return Plan(**{key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"plan.json is not a plan ({error})") from error


def recipes(plan: Plan) -> list[Recipe]:
    """Return the models to be examined, in order."""
    return [read_recipe(text) for text in plan.models]


def cases(plan: Plan, budgets: dict[Norm, float]) -> list[Case]:
    """Return the cases in the order in which they run; `budgets` gives epsilon where the plan does not.

    Raises:
        BadInput: the data has no usual budget for a norm and the plan names no epsilon.
    """
    found: list[Case] = []
    model_names = _labels([read_recipe(text).name for text in plan.models])
    attack_names = _labels([choose("attack", text).plugin.name for text in plan.attacks])
    for model, model_name in zip(plan.models, model_names, strict=True):
        for norm in plan.norms:
            if not plan.epsilons and norm not in budgets:
                raise BadInput(
                    f"{plan.data} has no usual budget for {norm}; give one with --epsilon"
                )
            for epsilon in plan.epsilons or (budgets[norm],):
                group = f"{model_name}-{norm}-{epsilon:.6g}"
                for text, name in zip(plan.attacks, attack_names, strict=True):
                    found.append(Case(f"{group}-{name}", model, norm, epsilon, text))
                found.append(Case(f"{group}-all", model, norm, epsilon, None))
    return found


def _check_numbers(plan: Plan) -> None:
    for epsilon in plan.epsilons:
        if not (epsilon > 0 and math.isfinite(epsilon)):
            raise BadOption(f"--epsilon must be a finite number above 0, not {epsilon}")
    for name, least in (("limit", 0), ("batch_size", 1), ("budget", 0), ("seed", 0)):
        if getattr(plan, name) < least:
            raise BadOption(
                f"--{name.replace('_', '-')} must be {least} or more, not {getattr(plan, name)}"
            )
    index, count = plan.shard
    if not 0 <= index < count:
        raise BadOption(f"--shard {index}/{count}: the index must be in 0..{count - 1}")
    if plan.order not in ("given", "reversed"):
        raise UnknownName.of("order", plan.order, ("given", "reversed"))
    if plan.target not in ("none", "next") and not plan.target.isdecimal():
        raise BadOption(f"--target must be none, next or a class number, not {plan.target!r}")


def _check_norm(attack: Choice, norm: Norm) -> None:
    known = attack.plugin.facts["norms"]
    if norm not in known:
        able = [p.name for p in registry.all_of("attack") if norm in p.facts["norms"]]
        raise BadOption(
            f"attack {attack.plugin.name!r} does not know the norm {norm}, only {', '.join(known)}; "
            f"these know it: {', '.join(able)}"
        )


def _unique(texts: "object") -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))  # type: ignore[call-overload]


def _labels(names: list[str]) -> list[str]:
    """Return file-safe labels; a name that stands more than once is numbered."""
    seen: dict[str, int] = {}
    labels = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        safe = name.replace("/", ".")
        labels.append(safe if seen[name] == 1 else f"{safe}-{seen[name]}")
    return labels
