"""One finding examined again, on the same model or on another."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trustml.audit.agenda import SECTIONS
from trustml.audit.auditing import findings_of, run_of
from trustml.audit.findings import SEVERITIES, Finding
from trustml.benchmarks import harness
from trustml.benchmarks.plan import Plan, read_plan
from trustml.contracts import Json, Record, Score
from trustml.errors import BadInput, MethodFailed, UnknownName
from trustml.options import spec_text

# The list of the plan that a case of a kind comes from.
_LISTS = {
    "attack": "attacks",
    "attribution": "attributions",
    "detector": "detectors",
    "inspection": "inspections",
    "route": "routes",
    "stealer": "stealers",
}
# What these say is not in their number: a rank among a few honest models cannot grow, and signs of
# masked gradients have none. Their verdicts are compared.
_BY_VERDICT = ("backdoor", "masked gradients")


@dataclass(frozen=True, slots=True)
class Replay:
    """A finding, the same number measured again, and what is found now.

    Args:
        finding: of the audit.
        again: its number now.
        now: the finding by the same rule; None where the rule finds nothing to judge.
        accused: the class that a backdoor is said to be of, then and now; None is none.
    """

    finding: Finding
    again: Score
    now: Finding | None = None
    accused: tuple[int | None, int | None] = (None, None)

    @property
    def reproduced(self) -> bool:
        """Whether the new number lies in the interval of the finding, and the verdict is its."""
        if self._by_verdict is not None:
            same = self._by_verdict.severity == self.finding.severity
            return same and self.accused[0] == self.accused[1]
        then = self.finding.score
        return then.low <= self.again.value <= then.high

    @property
    def worse(self) -> bool:
        """Whether the new number lies beyond the bad end of the interval, or accuses anew."""
        if self._by_verdict is not None:
            then, now = self.accused
            anew = now is not None and now != then
            return anew or _rank(self._by_verdict) < _rank(self.finding)
        score = self.finding.score
        if score.better == "higher":
            return self.again.value < score.low
        return self.again.value > score.high

    @property
    def _by_verdict(self) -> Finding | None:
        return self.now if self.finding.name in _BY_VERDICT else None


def named(text: str) -> tuple[Path, str]:
    """Return the folder and the finding's id of `FOLDER#F-012`.

    Raises:
        BadInput: it is not of that form.
    """
    folder, mark, name = text.rpartition("#")
    if not mark or not re.fullmatch(r"F-\d{3,}", name):
        raise BadInput(f"{text!r} must be an audit's folder and a finding, such as audit#F-001")
    return Path(folder), name


def replay(folder: Path, name: str, model: str | None = None) -> Replay:
    """Return the finding with its number measured again; `model` is another recipe than its own.

    Raises:
        UnknownName: the audit has no such finding.
        BadInput: the folder holds no complete audit.
        MethodFailed: the case fails now.
    """
    findings, _ = findings_of(folder)
    known = {finding.id: finding for finding in findings}
    if name not in known:
        raise UnknownName.of("finding", name, known)
    finding = known[name]
    run = run_of(folder, finding.section)
    then = {record.case: record for record in harness.finished(run)}[finding.case]
    plan = narrowed(read_plan(run), then)
    if model is not None:
        plan = replace(plan, models=(model,))
    with tempfile.TemporaryDirectory() as scratch:
        records = list(harness.start(plan, Path(scratch) / "run"))
    again = next((record for record in records if _same(record, then)), None)
    if again is None or again.status != "done":
        reason = again.reason if again else "the case is not among those of the plan"
        raise MethodFailed(f"{finding.case} cannot be made again: {reason}")
    if finding.metric not in again.scores:
        why = next((note for note in again.notes if note.startswith(finding.metric)), "")
        raise MethodFailed(f"{finding.case} has no {finding.metric} now{why and f' ({why})'}")
    return Replay(
        finding, again.scores[finding.metric], _judged(records, again, finding),
        (_accused(then), _accused(again)),
    )  # fmt: skip


def narrowed(plan: Plan, record: Record) -> Plan:
    """Return the plan with no more in it than what the record needs."""
    changes: dict[str, tuple[str | float, ...]] = {}
    name = _LISTS.get(record.kind)
    if name is not None and record.options is not None:
        text = spec_text(record.plugin, _tuples(record.options))
        changes[name] = (text,) if text in getattr(plan, name) else getattr(plan, name)
    if "norm" in record.threat:
        changes["norms"] = (record.threat["norm"],)
        changes["epsilons"] = () if plan.curve else (record.threat["epsilon"],)
    return replace(plan, **changes)  # type: ignore[arg-type]


def command(folder: Path, finding: Finding) -> str:
    """Return the command that examines the finding again."""
    return f"trustml replay {folder}#{finding.id}"


def _judged(records: Sequence[Record], again: Record, finding: Finding) -> Finding | None:
    """Return what the rule of the finding says of the record that was made again."""
    section = next(one for one in SECTIONS if one.name == finding.section)
    found = section.judged(records)
    return next((f for f in found if (f.name, f.case) == (finding.name, again.case)), None)


def _accused(record: Record) -> int | None:
    """Return the class that an inspection raises an alarm about, if it does."""
    alarm = record.scores.get("alarm raised")
    return int(record.scores["oddest class"].value) if alarm and alarm.value > 0 else None


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


def _tuples(options: Mapping[str, Json]) -> dict[str, Json]:
    """Return options as they were before JSON made lists of them."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}


def _same(record: Record, then: Record) -> bool:
    now, before = (
        (one.kind, one.plugin, one.threat.get("norm"), one.threat.get("epsilon"))
        for one in (record, then)
    )
    # The options of a row about other rows name these, and these are fewer now.
    return now == before and (then.kind not in _LISTS or record.options == then.options)
