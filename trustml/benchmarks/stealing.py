"""The exam of stealing: what each thief makes of a victim that answers in certain terms."""

from dataclasses import asdict, fields, replace
from typing import Any, Literal, get_args

from trustml.benchmarks.discipline import Discipline
from trustml.benchmarks.plan import Case, Plan, anywhere, labels, recipe_anywhere, unique
from trustml.benchmarks.thefts import check_claims, examine, read
from trustml.contracts import Access, Dataset, Json, Terms
from trustml.errors import UnknownName
from trustml.options import Option, read_options, split_spec
from trustml.recipes import choose, read_recipe
from trustml.records import plain

Answers = Literal["labels", "top1", "probabilities", "logits"]
_TYPES: dict[str, Any] = {
    "answers": Answers,
    "explains": Literal["nothing", "logit", "probability"],
    "decimals": int | None,
    "precision": Literal["float32", "float64"],
    "inputs": Literal["free", "box", "8-bit"],
}


def check(plan: Plan) -> Plan:
    """Return the plan with canonical stealers and copy.

    Raises:
        UsageError: a name or an option that is not allowed, or terms that cannot be.
    """
    read_terms(plan)
    return replace(
        plan,
        stealers=unique(anywhere(choose("stealer", text)).text for text in plan.stealers),
        copy=recipe_anywhere(read_recipe(plan.copy)) if plan.copy else "",
    )


def read_terms(plan: Plan) -> Terms:
    """Return the victim's terms: `answers=logits,precision=float64,…`, and the plan's budget.

    Raises:
        UsageError: an unknown word, or a value that is not allowed.
    """
    defaults = {field.name: field.default for field in fields(Terms)}
    options = tuple(
        Option(name, kind, "probabilities" if name == "answers" else defaults[name])
        for name, kind in _TYPES.items()
    )
    _, raw = split_spec(f"terms:{plan.terms}" if plan.terms else "terms")
    found = read_options("terms", options, raw)
    answers = str(found.pop("answers"))
    if answers not in get_args(Answers):
        raise UnknownName.of("answers", answers, get_args(Answers))
    return Terms(answers=Access[answers.upper()], budget=plan.budget or None, **found)


def cases(plan: Plan, dataset: Dataset, model: str, label: str, seed: int) -> list[Case]:
    """Return a row for each stealer."""
    terms = asdict(read_terms(plan))
    facts: dict[str, Json] = {
        "victim": {**terms, "answers": terms["answers"].name.lower()},
        "copy": plan.copy or model,
    }
    stealers = [choose("stealer", text) for text in plan.stealers]
    names = labels(stealer.plugin.name for stealer in stealers)
    return [
        Case(
            f"{label}-{name}", "stealer", stealer.plugin.name, stealer.text,
            plain(stealer.options), model, seed, facts,
        )
        for name, stealer in zip(names, stealers, strict=True)
    ]  # fmt: skip


STEALING = Discipline(
    kinds=("stealer",),
    wanted=lambda plan: bool(plan.stealers),
    checked=check,
    cases=cases,
    size=lambda plan: len(plan.stealers),
    examined=examine,
    verified=check_claims,
    read=read,
)
