"""The exam of stealing: what each thief makes of a victim that answers in certain terms."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Literal, get_args

from trustml.benchmarks import services, thefts
from trustml.benchmarks.discipline import Bench, Discipline
from trustml.benchmarks.plan import Case, Plan, anywhere, labels, recipe_anywhere, unique
from trustml.contracts import Access, Dataset, Json, Record, Terms
from trustml.countering import canonical, masks_answers
from trustml.errors import BadOption, UnknownName
from trustml.options import Option, read_options, split_spec
from trustml.recipes import choose, of_a_copy, read_recipe, split_recipe
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
    terms = read_terms(plan)
    against = unique(canonical(text) for text in plan.countermeasures)
    if terms.answers == Access.LOGITS and any(masks_answers(text) for text in against):
        raise BadOption(
            "--countermeasure: what changes probabilities cannot act on a victim that answers "
            "logits: leave out --terms answers=logits"
        )
    return replace(
        plan,
        countermeasures=against,
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
    """Return for each service, bare and with each countermeasure, its row and one a stealer."""
    terms = asdict(read_terms(plan))
    facts: dict[str, Json] = {
        "victim": {**terms, "answers": terms["answers"].name.lower()},
        "copy": plan.copy or of_a_copy(read_recipe(model)).text,
    }
    stealers = [choose("stealer", text) for text in plan.stealers]
    names = labels(stealer.plugin.name for stealer in stealers)
    texts = ("none", *plan.countermeasures)
    shields = labels("+".join(name for name, _ in map(split_spec, split_recipe(t))) for t in texts)
    found = []
    for text, shield in zip(texts, shields, strict=True):
        own = label if text == "none" else f"{label}-{shield}"
        met = {**facts, "countermeasure": text}
        found.append(Case(f"{own}-service", "service", "service", "", {}, model, seed, met))
        found += [
            Case(
                f"{own}-{name}", "stealer", stealer.plugin.name, stealer.text,
                plain(stealer.options), model, seed, met,
            )
            for name, stealer in zip(names, stealers, strict=True)
        ]  # fmt: skip
    return found


def _examined(case: Case, blank: Record, bench: Bench) -> Record:
    room: Any = services if case.kind == "service" else thefts
    record: Record = room.examine(case, blank, bench)
    return record


def _verified(case: Case, record: Record, bench: Bench) -> None:
    room: Any = services if case.kind == "service" else thefts
    room.check_claims(case, record, bench)


def _after(case: Case, others: Sequence[Case]) -> list[str]:
    """Return the row of the same thief without a countermeasure, which the others are beside."""
    bare = case.threat["countermeasure"] == "none"
    return [
        other.name
        for other in others
        if not bare
        and case.kind == other.kind == "stealer"
        and (other.plugin, other.text) == (case.plugin, case.text)
        and other.threat["countermeasure"] == "none"
    ]


STEALING = Discipline(
    kinds=("stealer", "service"),
    wanted=lambda plan: bool(plan.stealers),
    checked=check,
    cases=cases,
    size=lambda plan: (1 + len(plan.countermeasures)) * (1 + len(plan.stealers)),
    examined=_examined,
    verified=_verified,
    read=thefts.read,
    apart=lambda plan, case: "all",
    after=_after,
)
