"""Whether a run measured anything of what it was asked for."""

from collections.abc import Sequence

from trustml.benchmarks.explanations import REFERENCES
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.robustness import NOISE
from trustml.contracts import Record
from trustml.errors import TrustError
from trustml.options import split_spec

# Kinds of rows that a person asks for by name; the others the harness sets beside them.
_ASKED = frozenset(
    ("attack", "corruption", "detector", "attribution", "stealer", "route", "poison", "inspection")
)
_SHOWN = 3


def check_measured(done: Sequence[Record], plan: Plan) -> None:
    """Refuse to call a run a success where every row that was asked for was skipped.

    Args:
        done: all records of the run.
        plan: its plan, checked.

    Raises:
        TrustError: each of them was; the message says why.
    """
    unasked = _unasked(plan)
    asked = [r for r in done if r.kind in _ASKED and (r.kind, r.plugin) not in unasked]
    if not asked or any(record.status != "skipped" for record in asked):
        return
    reasons = list(dict.fromkeys(_reason(record) for record in asked))
    more = f"; and {len(reasons) - _SHOWN} more, in the table" if len(reasons) > _SHOWN else ""
    raise TrustError(
        f"nothing was measured, for all that was asked for was skipped: "
        f"{'; '.join(reasons[:_SHOWN])}{more}"
    )


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


def _reason(record: Record) -> str:
    said = " ".join(record.reason.split())
    name = record.plugin
    return said if said.startswith(f"{name}: ") else f"{name}: {said}"
