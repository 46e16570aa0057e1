"""Whether a run measured anything of what it was asked for."""

from collections.abc import Sequence

from trustml.benchmarks.asked import asked_for
from trustml.benchmarks.plan import Plan
from trustml.contracts import Record
from trustml.errors import TrustError

_SHOWN = 3


def check_measured(done: Sequence[Record], plan: Plan) -> None:
    """Refuse to call a run a success where every row that was asked for was skipped.

    Args:
        done: all records of the run.
        plan: its plan, checked.

    Raises:
        TrustError: each of them was; the message says why.
    """
    asked = asked_for(done, plan)
    if not asked or any(record.status != "skipped" for record in asked):
        return
    reasons = list(dict.fromkeys(_reason(record) for record in asked))
    more = f"; and {len(reasons) - _SHOWN} more, in the table" if len(reasons) > _SHOWN else ""
    raise TrustError(
        f"nothing was measured, for all that was asked for was skipped: "
        f"{'; '.join(reasons[:_SHOWN])}{more}"
    )


def _reason(record: Record) -> str:
    said = " ".join(record.reason.split())
    name = record.plugin
    return said if said.startswith(f"{name}: ") else f"{name}: {said}"
