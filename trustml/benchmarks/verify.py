"""Check every stored claim of a run again: bytes, ball, box, misreading, scores."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import CASES, MODELS, SAMPLES, Bench
from trustml.benchmarks.exams import cases, checked, exam_of
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.place import arithmetic, device_of
from trustml.benchmarks.plan import Case, Plan, read_plan
from trustml.benchmarks.pooling import POOLED, pooled
from trustml.benchmarks.setting import (
    Setting,
    clean_logits,
    examined,
    load_data,
    placed,
    recorded_module,
)
from trustml.contracts import Dataset, Record
from trustml.errors import BadInput, BrokenClaim, UnknownName
from trustml.files import file_hash
from trustml.recipes import read_recipe
from trustml.records import plain, read_records
from trustml.registry import get
from trustml.splits import data_hash


def verify(folder: Path, device: str = "auto") -> Iterator[Record]:
    """Yield each record of the run once all its claims have been found to hold.

    Raises:
        BrokenClaim: the first claim that does not hold; case and sample are named.
        UsageError: the folder holds no run, or its data or plugins are no longer to be had.
    """
    where, plan = device_of(device), checked(read_plan(folder))
    with arithmetic(plan.deterministic):
        yield from _held(plan, folder, where)


def _held(plan: Plan, folder: Path, where: torch.device) -> Iterator[Record]:
    """Yield each record that holds.

    Raises:
        BrokenClaim: the first claim that does not hold.
    """
    try:
        records = {record.case: record for record in read_records(folder / RECORDS)}
    except BadInput as error:
        raise BrokenClaim(str(error)) from error
    # Bytes first: it is quick, and needs neither the data nor the model.
    for record in records.values():
        _check_bytes(record, folder)
    dataset = load_data(plan.data, plan.data_dir)
    planned = {case.name: case for case in cases(plan, dataset)}
    settings: dict[tuple[str, int, str, str], Setting] = {}
    memories: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records.values():
        case = planned.get(record.case)
        if case is None or not _is_of(record, case, plan):
            raise BrokenClaim(f"{record.case}: what its record says is not what the plan says")
        if record.status == "done" and record.kind == POOLED:
            _check_pool(record, records)
        elif record.status == "done":
            of = (record.model, record.seed, record.weights, record.data_hash)
            if of not in settings:
                settings[of] = recorded_setting(plan, record, dataset, folder, where)
            group = [r for r in records.values() if (r.model, r.seed) == of[:2]]
            memory = memories.setdefault(of[:2], {})
            bench = Bench(plan, dataset, settings[of], folder, where, group, memory)
            exam_of(record.kind).verified(case, record, bench)
        yield record


def recorded_setting(
    plan: Plan, record: Record, dataset: Dataset, folder: Path, device: torch.device
) -> Setting:
    """Return the recorded model, from the run's own folder, on the recorded samples.

    Raises:
        BrokenClaim: the weights or the samples are not those of the record.
    """
    recipe, split = read_recipe(record.model), examined(plan, dataset.test)
    module = recorded_module(recipe, split.domain, record.seed, (record.weights, folder / MODELS))
    if data_hash(split) != record.data_hash:
        raise BrokenClaim(f"{record.case}: {plan.data} no longer holds the samples of this run")
    module = placed(module, device)
    right = (clean_logits(module, split, device).argmax(1).cpu() == split.y).cpu()
    return Setting(recipe, module, record.weights, split, record.data_hash, right, ())


def _check_bytes(record: Record, folder: Path) -> None:
    """See that the sample file of a record, if it has one, is as it was written."""
    if record.status != "done" or not record.samples:
        return
    path = folder / CASES / record.case / SAMPLES
    exam_of(record.kind).read(path)
    if file_hash(path) != record.samples:
        raise BrokenClaim(f"{path} is not the file that the record of {record.case} speaks of")


def _is_of(record: Record, case: Case, plan: Plan) -> bool:
    """Return whether the record says what the plan says of its case."""
    facts = (record.kind, record.plugin, record.model, record.data, record.seed)
    wanted = (case.kind, case.plugin, case.model, plan.data, case.seed)
    same = case.options is None or record.options == _known_then(case, record)
    return facts == wanted and same and case.threat.items() <= record.threat.items()


def _known_then(case: Case, record: Record) -> dict[str, Any]:
    """Return the case's options, but for those at their defaults that the record does not know.

    A method may have gained one since.
    """
    assert case.options is not None
    options = plain(case.options)
    if options.keys() <= record.options.keys():
        return options
    try:
        usual = plain({one.name: one.default for one in get(case.kind, case.plugin).options})
    except UnknownName:  # several plugins in one, or a row about other rows
        return options
    return {
        name: value for name, value in options.items()
        if name in record.options or name not in usual or value != usual[name]
    }  # fmt: skip


def _check_pool(record: Record, records: dict[str, Record]) -> None:
    """Check that a pooled record follows from the records that it pools."""
    of = [records[name] for name in record.options["of"] if name in records]
    again = pooled(replace(record, scores={}), of)
    if not close(again.scores, record.scores):
        raise BrokenClaim(f"{record.case}: the scores do not follow from those of the seeds")
