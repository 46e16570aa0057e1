"""The harness: a plan in, records out; each finished batch is on disk before the next begins."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.judge import Exam, judged
from trustml.benchmarks.place import device_of, exact_arithmetic, place
from trustml.benchmarks.plan import (
    ALL,
    NOISE,
    PLAN,
    Case,
    Plan,
    cases,
    checked,
    read_plan,
    threat_facts,
)
from trustml.benchmarks.samples import CLEAN_WRONG, FOOLED, Made, Samples, joined, sealed
from trustml.benchmarks.scores import cost, scores, worst_case
from trustml.benchmarks.setting import Setting, load_data, settle
from trustml.contracts import Cost, Dataset, Record, Status
from trustml.errors import (
    BadInput,
    BrokenClaim,
    DiskFull,
    MethodFailed,
    NotApplicable,
    TrustError,
    UsageError,
)
from trustml.files import append_line, locked, write_whole
from trustml.progress import progress
from trustml.recipes import choose, read_recipe
from trustml.records import plain, read_records, to_line

RECORDS, CASES, MODELS = "records.jsonl", "cases", "models"
SAMPLES = "samples.safetensors"


def start(plan: Plan, folder: Path) -> Iterator[Record]:
    """Check the plan, open a run in the folder and yield each record as its case ends.

    Raises:
        UsageError: the plan cannot be carried out, or the folder is not empty.
        TrustError: nothing could be written.
    """
    _check_empty(folder)
    plan = checked(plan)
    device_of(plan.device)
    dataset = load_data(plan.data, plan.data_dir)
    plans = cases(plan, dataset)
    with locked(folder):
        _check_empty(folder)  # another process may have been quicker
        write_whole(folder / PLAN, plan.to_json().encode())
        yield from _run(plan, plans, dataset, folder)


def resume(folder: Path) -> Iterator[Record]:
    """Continue a run that was stopped; yield every record, those of finished cases at once.

    Raises:
        UsageError: the folder holds no run, or another process is at work in it.
    """
    plan = checked(read_plan(folder))
    dataset = load_data(plan.data, plan.data_dir)
    with locked(folder):
        yield from _run(plan, cases(plan, dataset), dataset, folder)


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


def _run(plan: Plan, todo: list[Case], dataset: Dataset, folder: Path) -> Iterator[Record]:
    exact_arithmetic()
    device = device_of(plan.device)
    finished = {record.case: record for record in read_records(folder / RECORDS)}
    known: dict[str, Setting | TrustError] = {}
    group: list[Record] = []
    for case in todo:
        if case.name not in finished:
            if case.model not in known:
                known[case.model] = _settled(plan, case.model, dataset, device, folder)
            record = _examined(plan, case, known[case.model], (folder, device), group)
            append_line(folder / RECORDS, to_line(record))
            finished[case.name] = record
        # Also for cases of before: a kill can come between the record and this.
        shutil.rmtree(folder / CASES / case.name / "batches", ignore_errors=True)
        group = [] if case.attack is None else [*group, finished[case.name]]
        yield finished[case.name]


def _settled(
    plan: Plan, text: str, dataset: Dataset, device: torch.device, folder: Path
) -> Setting | TrustError:
    """Return the model's setting, or why there is none: each of its cases then says so."""
    try:
        return settle(plan, read_recipe(text), dataset, device, folder / MODELS)
    except (UsageError, DiskFull, BrokenClaim):
        raise
    except TrustError as error:
        return error


def _examined(
    plan: Plan,
    case: Case,
    setting: Setting | TrustError,
    where: tuple[Path, torch.device],
    group: list[Record],
) -> Record:
    """Return the record of a case, whatever happens in it; `group` holds those before it."""
    folder, device = where
    attack = choose("attack", case.attack) if case.attack else None
    blank = Record(
        case=case.name,
        kind="attack" if attack else "union",
        plugin=attack.plugin.name if attack else ALL,
        options=plain(attack.options) if attack else {},
        model=case.model,
        weights="",
        data=plan.data,
        data_hash="",
        seed=plan.seed,
        threat=threat_facts(plan, case),
        scores={},
        cost=Cost(),
        place=place(device),
        status="failed",
    )
    if isinstance(setting, TrustError):
        return replace(blank, status=_status(setting), reason=_line(setting))
    split = setting.split
    blank = replace(
        blank,
        weights=setting.weights_hash,
        data_hash=setting.data_hash,
        threat={**blank.threat, "low": split.low, "high": split.high},
    )
    home = folder / CASES / case.name
    try:
        if attack is None:
            return _union(blank, home, group)
        exam = Exam(
            setting, attack, case.norm, case.epsilon, plan.target, plan.seed, plan.budget, device
        )
        return _attacked(blank, exam, home, plan.batch_size, group)
    except NotApplicable as error:
        return replace(blank, status="skipped", reason=_line(error))
    except MethodFailed as error:
        return replace(blank, status="failed", reason=_line(error))


def _attacked(
    blank: Record, exam: Exam, home: Path, batch_size: int, group: list[Record]
) -> Record:
    """Attack batch after batch, each on disk before the next; return the record."""
    right = exam.setting.right.nonzero().flatten()
    parts, seconds, notes = [_untouched(exam.setting)], 0.0, list(exam.setting.notes)
    if exam.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(exam.device)
    with progress(f"{home.name}", len(right)) as advance:
        # An empty tensor splits into one empty batch; there is nothing to attack in it.
        for number, rows in enumerate(right.split(batch_size) if len(right) else ()):
            file = home / "batches" / f"{number:06d}.safetensors"
            part, made = _batch(exam, rows, file)
            parts.append(part)
            seconds += made.seconds
            notes += made.notes
            advance(len(rows))
    samples = _in_order(joined(parts), exam.setting.split.ids)
    peak = (
        torch.cuda.max_memory_allocated(exam.device) / 2**20 if exam.device.type == "cuda" else None
    )
    digest = on_disk.write(samples, home / SAMPLES)
    return replace(
        blank,
        scores=scores(samples, exam.setting.split.high - exam.setting.split.low),
        cost=cost(samples, seconds, peak),
        status="done",
        notes=tuple(dict.fromkeys([*notes, *_floor(samples, home, group)])),
        samples=digest,
    )


def _batch(exam: Exam, rows: torch.Tensor, file: Path) -> tuple[Samples, Made]:
    """Return a batch's verdicts: those on disk from before a stop, or new ones, then on disk."""
    if file.exists():
        with suppress(BrokenClaim):  # a damaged batch is done again
            known = on_disk.read(file)
            if torch.equal(known[0].ids, exam.setting.split.ids[rows]):
                return known
    part, made = judged(exam, exam.setting.split.at(rows))
    on_disk.write(part, file, made)
    return part, made


def _union(blank: Record, home: Path, group: list[Record]) -> Record:
    """Return the worst case per input over the group's finished attacks."""
    done = [record for record in group if record.status == "done"]
    if not done:
        raise NotApplicable("no attack was finished, so there is no worst case")
    parts = [on_disk.read(home.parent / record.case / SAMPLES)[0] for record in done]
    samples = worst_case(parts, str(blank.threat["norm"]))
    digest = on_disk.write(samples, home / SAMPLES)
    missing = [record.plugin for record in group if record.status != "done"]
    return replace(
        blank,
        options={"of": [record.case for record in done]},
        scores=scores(samples, blank.threat["high"] - blank.threat["low"]),
        cost=cost(samples, sum(record.cost.seconds for record in done), None),
        status="done",
        notes=(f"without {', '.join(missing)}",) if missing else (),
        samples=digest,
    )


def _untouched(setting: Setting) -> Samples:
    """Return the samples that are wrong without an attack, as they are."""
    wrong = setting.split.at((~setting.right).nonzero().flatten())
    nothing, nowhere = torch.zeros(len(wrong)), torch.zeros(len(wrong), len(on_disk.NORMS))
    return sealed(wrong.ids, nothing + CLEAN_WRONG, wrong.x, nowhere, (nothing, nothing))


def _in_order(samples: Samples, ids: torch.Tensor) -> Samples:
    """Return the samples in the order of `ids`."""
    place = {int(name): row for row, name in enumerate(samples.ids)}
    return samples.at(torch.tensor([place[int(name)] for name in ids]))


def _floor(samples: Samples, home: Path, group: list[Record]) -> list[str]:
    """Say so if an attack ended weaker than random noise of the same budget."""
    for record in group:
        if record.plugin == NOISE and record.status == "done":
            noise = on_disk.read(home.parent / record.case / SAMPLES)[0]
            if int((samples.verdict == FOOLED).sum()) < int((noise.verdict == FOOLED).sum()):
                return ["weaker than random noise of the same budget"]
    return []


def _status(error: TrustError) -> Status:
    return "skipped" if isinstance(error, NotApplicable) else "failed"


def _line(error: TrustError) -> str:
    """Return the error as one line, whatever a plugin's own message holds."""
    return " ".join(str(error).split())
