"""The harness: a plan in, records out; each finished batch is on disk before the next begins."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from trustml.benchmarks.asked import asked_for
from trustml.benchmarks.batch_rows import AUTO, batch_rows
from trustml.benchmarks.crew import Crew, Order, crew, ended
from trustml.benchmarks.discipline import CASES, MODELS, Bench
from trustml.benchmarks.exams import cases, checked, exam_of
from trustml.benchmarks.place import arithmetic, device_of, forget_peak, peak_mib, place
from trustml.benchmarks.plan import PLAN, Case, Plan, read_plan
from trustml.benchmarks.pooling import POOLED, pooled
from trustml.benchmarks.setting import Setting, load_data, settle
from trustml.benchmarks.surrogates import check_models
from trustml.beyond import RULERS
from trustml.contracts import Cost, Dataset, Record
from trustml.errors import (
    BadInput,
    BrokenClaim,
    DiskFull,
    TrustError,
    UsageError,
)
from trustml.files import append_line, locked, write_whole
from trustml.recipes import read_recipe
from trustml.records import read_history, read_records, to_line

RECORDS = "records.jsonl"


def start(plan: Plan, folder: Path, executor: str = "local", workers: int = 0) -> Iterator[Record]:
    """Check the plan, open a run in the folder and yield each record as its case ends.

    Who does the work (`crew.Executor`, and how many workers of it) is not part of the plan: the
    records are the same.

    Raises:
        UsageError: the plan cannot be carried out, or the folder is not empty.
        TrustError: nothing could be written.
    """
    _check_empty(folder)
    models, lent = plan.models, plan.surrogates
    plan = checked(plan)
    device_of(plan.device)
    dataset = load_data(plan.data, plan.data_dir)
    plans = cases(plan, dataset)
    check_models(plan, models, lent, dataset)
    hire = crew(executor, workers, device_of(plan.device).type)
    with locked(folder):
        _check_empty(folder)  # another process may have been quicker
        with _nothing_half_begun(folder, plan), hire as hired, arithmetic(plan.deterministic):
            write_whole(folder / PLAN, plan.to_json().encode())
            yield from _run(plan, plans, dataset, folder, hired)


@contextmanager
def _nothing_half_begun(folder: Path, plan: Plan) -> Iterator[None]:
    """Take away what a request leaves that proves to be none before what it names was begun."""
    try:
        yield
    except UsageError:
        if not asked_for(read_history(folder / RECORDS), plan):
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            folder.rmdir()
        raise


def resume(folder: Path, executor: str = "local", workers: int = 0) -> Iterator[Record]:
    """Continue a run that was stopped; yield every record, those of finished cases at once.

    What failed is tried again, and with it each row about rows that have changed since.

    Raises:
        UsageError: the folder holds no run, or another process is at work in it.
    """
    plan = checked(read_plan(folder))
    dataset = load_data(plan.data, plan.data_dir)
    kind = device_of(plan.device).type
    with locked(folder), crew(executor, workers, kind) as hired, arithmetic(plan.deterministic):
        yield from _run(plan, cases(plan, dataset), dataset, folder, hired)


def finished(folder: Path) -> list[Record]:
    """Return the records of the finished cases of a run.

    Raises:
        BadInput: the folder holds no run, or a record is damaged.
    """
    read_plan(folder)
    return read_records(folder / RECORDS)


def _check_empty(folder: Path) -> None:
    """Refuse a folder with anything in it but what a kill before the plan was written leaves.

    Raises:
        BadInput: the folder holds something, or is none.
    """
    try:
        names = [path.name for path in folder.iterdir()] if folder.exists() else []
    except OSError as error:
        raise BadInput(f"--out {folder}: {error.strerror}; name a new folder") from error
    if PLAN in names:
        raise BadInput(
            f"{folder} holds a run; choose another --out, or continue it with --resume {folder}"
        )
    if any(name != ".lock" and not name.startswith(f".{PLAN}.") for name in names):
        raise BadInput(f"{folder} is not empty; choose another --out")


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """A run in progress: models are settled once, records are looked up by case.

    `due` are the cases that are not finished, `sent` those of which parts were sent away.
    """

    plan: Plan
    dataset: Dataset
    folder: Path
    device: torch.device
    settings: dict[tuple[str, int], Setting | TrustError]
    memories: dict[tuple[str, int], dict[str, Any]]
    records: dict[str, Record]
    crew: Crew | None = None
    due: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)


def _run(
    plan: Plan, todo: list[Case], dataset: Dataset, folder: Path, hired: Crew | None
) -> Iterator[Record]:
    history = read_history(folder / RECORDS)
    records = {record.case: record for record in history}
    made = {record.case: line for line, record in enumerate(history)}
    due = {case.name for case in todo if _is_open(case, records)}
    run = _Run(plan, dataset, folder, device_of(plan.device), {}, {}, records, hired, due)
    for number, case in enumerate(todo):
        if _is_due(case, todo[:number], records, made):
            if hired is not None:
                _send_ahead(run, todo, number)
            record = _examined(run, case)
            due.discard(case.name)
            append_line(folder / RECORDS, to_line(record))
            made[case.name] = len(history) + number
            records[case.name] = record
        # Also for cases of before: a kill can come between the record and this.
        shutil.rmtree(folder / CASES / case.name / "batches", ignore_errors=True)
        yield records[case.name]


def _is_due(
    case: Case, before: list[Case], records: dict[str, Record], made: dict[str, int]
) -> bool:
    """Return whether a case was never finished, or failed, or is about rows newer than itself."""
    if _is_open(case, records):
        return True
    if case.text:
        return False
    pooled = case.kind == POOLED
    own = [c for c in before if c.model == case.model and (pooled or c.seed == case.seed)]
    return any(made[other.name] > made[case.name] for other in own)


def _is_open(case: Case, records: dict[str, Record]) -> bool:
    """Return whether a case was never finished, or failed."""
    return case.name not in records or records[case.name].status == "failed"


def _settled(run: _Run, case: Case) -> Setting | TrustError:
    """Return the model's setting, or why there is none: each of its cases then says so."""
    of = (case.model, case.seed)
    if of not in run.settings:
        try:
            recipe, plan = read_recipe(case.model), replace(run.plan, seed=case.seed)
            run.settings[of] = settle(plan, recipe, run.dataset, run.device, run.folder / MODELS)
        except (UsageError, DiskFull, BrokenClaim):
            raise
        except TrustError as error:
            run.settings[of] = error
    return run.settings[of]


def _examined(run: _Run, case: Case) -> Record:
    """Return the record of a case, whatever happens in it."""
    blank = _blank(run, case)
    setting = None if case.kind == POOLED else _settled(run, case)
    try:
        if setting is None:
            return pooled(blank, [run.records[name] for name in blank.options["of"]])
        if isinstance(setting, TrustError):
            raise setting
        blank = _begun(run, case, setting)
        away = run.crew.fetch(case.name) if run.crew is not None else None
        if away is not None:
            return away
        forget_peak(run.device)
        record = exam_of(case.kind).examined(case, blank, _bench(run, case, setting))
        most = record.cost.peak_mib or peak_mib(run.device)
        return replace(record, cost=replace(record.cost, peak_mib=most))
    except (UsageError, DiskFull, BrokenClaim):
        raise
    except TrustError as error:
        return ended(blank, error)


def _blank(run: _Run, case: Case) -> Record:
    """Return the record of a case of which nothing is known yet."""
    test = run.dataset.test
    box: dict[str, Any] = {"low": test.low, "high": test.high} if case.threat else {}
    if case.threat.get("norm") in RULERS:
        box["shape"] = list(test.x.shape[1:])  # what a share of a picture is in pixels
    return Record(
        case=case.name,
        kind=case.kind,
        plugin=case.plugin,
        options=case.options or {},
        model=case.model,
        weights="",
        data=run.plan.data,
        data_hash="",
        seed=case.seed,
        threat={**case.threat, **box},
        scores={},
        cost=Cost(),
        place=place(run.device),
        status="failed",
    )


def _begun(run: _Run, case: Case, setting: Setting) -> Record:
    """Return the record of a case of which the model is known, and how many samples are in flight.

    That is said where it was found; verdicts do not depend on it.
    """
    blank, where = _blank(run, case), {}
    if run.plan.batch_size == AUTO:
        where = {"batch_size": batch_rows(_bench(run, case, setting))}
    return replace(
        blank,
        weights=setting.weights_hash,
        data_hash=setting.data_hash,
        place={**blank.place, **where},
    )


def _bench(run: _Run, case: Case, setting: Setting) -> Bench:
    same = (case.model, case.seed)
    group = [
        record
        for record in run.records.values()
        if (record.model, record.seed) == same and record.kind != POOLED
    ]
    memory = run.memories.setdefault(same, {})
    return Bench(run.plan, run.dataset, setting, run.folder, run.device, group, memory)


def _send_ahead(run: _Run, todo: list[Case], number: int) -> None:
    """Send away what can be done now of the cases to come of the next one's model and seed."""
    first = todo[number]
    setting = None if first.kind == POOLED else _settled(run, first)
    if run.crew is None or not isinstance(setting, Setting):
        return
    own = [c for c in todo if (c.model, c.seed) == (first.model, first.seed) and c.kind != POOLED]
    for case in own:
        exam = exam_of(case.kind)
        if case.name not in run.due - run.sent or exam.apart(run.plan, case) == "no":
            continue
        needed = exam.after(case, own)
        if run.due.intersection(needed):
            continue
        run.sent.add(case.name)
        blank = _begun(run, case, setting)
        after = [run.records[name] for name in needed]
        # What does not suit the model says so when its turn comes.
        with suppress(TrustError):
            run.crew.send(Order(case, blank, _bench(run, case, setting), after))
