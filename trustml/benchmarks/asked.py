"""Which rows of a run a person asked for by name, and which the harness sets beside them."""

from collections.abc import Iterable

from trustml.benchmarks.explanations import REFERENCES
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.robustness import NOISE
from trustml.contracts import Record
from trustml.options import split_spec

# Their kinds; all others are about these, or about the model.
_KINDS = frozenset(
    ("attack", "corruption", "detector", "attribution", "stealer", "route", "poison", "inspection")
)


def asked_for(records: Iterable[Record], plan: Plan) -> list[Record]:
    """Return the records of what a checked plan names."""
    unasked = _unasked(plan)
    return [r for r in records if r.kind in _KINDS and (r.kind, r.plugin) not in unasked]


def _unasked(plan: Plan) -> set[tuple[str, str]]:
    """Return the rows that a checked plan has in front unless it names them: what to compare with.

    One that is named stands where it is named, so after these, or out of their order.
    """
    found: set[tuple[str, str]] = set()
    for kind, texts, beside in (
        ("attack", plan.attacks, (NOISE,)),
        ("attribution", plan.attributions, REFERENCES),
    ):
        names, rest = [split_spec(text)[0] for text in texts], list(beside)
        while len(names) > 1 and names[0] in rest:
            rest = rest[rest.index(names[0]) + 1 :]
            found.add((kind, names.pop(0)))
    return found
