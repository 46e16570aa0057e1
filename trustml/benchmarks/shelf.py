"""Many runs at once: found below a folder, filtered, as rows for a table or another program."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trustml.benchmarks.exams import checked, size
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.plan import PLAN, Plan, read_plan
from trustml.contracts import Json, Record
from trustml.errors import BadInput, TrustError
from trustml.records import read_records

# What a run can be chosen by.
FIELDS = ("run", "model", "data", "plugin", "kind", "device", "commit", "status")


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run: where it lies, what was planned, when it began, what came of it so far.

    `planned` is None where the plan can no longer be read as this version reads plans.
    """

    folder: Path
    plan: Plan
    begun: datetime
    planned: int | None
    records: tuple[Record, ...]

    def values(self, field: str) -> set[str]:
        """Return what a filter on the field is compared with."""
        if field == "run":
            return {str(self.folder)}
        if field in ("device", "commit"):
            return {str(record.place.get(field, "")) for record in self.records}
        return {str(getattr(record, field)) for record in self.records}


def runs(home: Path, where: Mapping[str, str] | None = None) -> list[Run]:
    """Return every run below the folder, the oldest first, that each filter fits.

    Args:
        home: where to look.
        where: field → a text that one of its values must hold.

    Raises:
        BadInput: there is no such folder, or a run's records are damaged.
    """
    if not home.is_dir():
        raise BadInput(f"{home}: no such folder")
    found = [_run(path.parent) for path in sorted(home.rglob(PLAN))]
    fitting = [run for run in found if _fits(run, where or {})]
    return sorted(fitting, key=lambda run: (run.begun, run.folder))


def read_filter(texts: Iterable[str]) -> dict[str, str]:
    """Return the filters of `field=text`.

    Raises:
        BadInput: a text of another form, or no such field.
    """
    found = {}
    for text in texts:
        field, mark, value = text.partition("=")
        if not mark or field not in FIELDS:
            raise BadInput(f"--where {text!r} must be FIELD=TEXT with one of {', '.join(FIELDS)}")
        found[field] = value
    return found


def rows(found: Iterable[Run]) -> Iterator[dict[str, Json]]:
    """Yield a flat row for each score of each record; one without scores where there is none."""
    for run in found:
        for record in run.records:
            facts = _facts(run, record)
            for name, score in record.scores.items():
                part = {"value": score.value, "low": score.low, "high": score.high}
                yield {**facts, "score": name, **part, "better": score.better}
            if not record.scores:
                none = {"score": "", "value": None, "low": None, "high": None, "better": ""}
                yield {**facts, **none}


def _run(folder: Path) -> Run:
    plan = read_plan(folder)
    try:
        planned = size(checked(plan))
    except TrustError:  # a plugin, or a file that it names, is no longer there
        planned = None
    begun = datetime.fromtimestamp((folder / PLAN).stat().st_mtime, UTC)
    return Run(folder, plan, begun, planned, tuple(read_records(folder / RECORDS)))


def _fits(run: Run, where: Mapping[str, str]) -> bool:
    return all(any(text in value for value in run.values(f)) for f, text in where.items())


def _facts(run: Run, record: Record) -> dict[str, Json]:
    threat, cost = record.threat, record.cost
    return {
        "run": str(run.folder), "begun": run.begun.isoformat(timespec="seconds"),
        "case": record.case, "kind": record.kind, "plugin": record.plugin,
        "options": json.dumps(dict(record.options)), "model": record.model,
        "weights": record.weights, "data": record.data, "data_hash": record.data_hash,
        "seed": record.seed, "norm": threat.get("norm", ""), "epsilon": threat.get("epsilon"),
        "status": record.status, "reason": record.reason, "seconds": cost.seconds,
        "forwards": cost.forwards, "backwards": cost.backwards, "queries": cost.queries,
        "peak_mib": cost.peak_mib, "device": str(record.place.get("device", "")),
        "commit": str(record.place.get("commit", "")),
    }  # fmt: skip
