"""The inputs of a run that fooled the model, beside what they were made from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import finished
from trustml.benchmarks.plan import read_plan
from trustml.benchmarks.samples import FOOLED
from trustml.benchmarks.setting import examined, load_data
from trustml.benchmarks.verify import recorded_setting
from trustml.contracts import Record
from trustml.errors import BadInput


@dataclass(frozen=True, slots=True, eq=False)
class Fooled:
    """N fooled samples: x and adversarial (N, *S), names of the true and the answered class."""

    case: str
    x: Tensor
    adversarial: Tensor
    true: tuple[str, ...]
    answered: tuple[str, ...]


def fooled(folder: Path, count: int) -> Fooled:
    """Return up to `count` samples that the last case with any success fooled, of many classes.

    Raises:
        BadInput: the folder holds no run, or nothing in it was fooled.
        BrokenClaim: its files are damaged.
    """
    records = finished(folder)
    record = _last_with_success(records, folder)
    plan = checked(read_plan(folder))
    dataset = load_data(plan.data, plan.data_dir)
    samples, _ = on_disk.read(folder / CASES / record.case / SAMPLES)
    split = examined(plan, dataset.test)
    rows = _spread(split.y, (samples.verdict == FOOLED).nonzero().flatten(), count)
    module = recorded_setting(plan, record, dataset, folder, torch.device("cpu")).module
    with frozen(module), torch.no_grad():
        answers = in_blocks(module, samples.adversarial[rows]).argmax(1)
    names = dataset.class_names
    return Fooled(
        record.case,
        split.x[rows],
        samples.adversarial[rows],
        tuple(names[int(label)] for label in split.y[rows]),
        tuple(names[int(label)] for label in answers),
    )


def _last_with_success(records: list[Record], folder: Path) -> Record:
    for record in reversed(records):
        success = record.scores.get("attack success")
        # A row over several seeds has no samples of its own.
        if success is not None and success.value > 0 and record.samples:
            return record
    raise BadInput(f"{folder}: nothing was fooled, so there is nothing to draw")


def _spread(y: Tensor, rows: Tensor, count: int) -> Tensor:
    """Return up to `count` of the rows, taking the classes in turn."""
    turn = torch.zeros(len(rows), dtype=torch.long)
    for label in y[rows].unique():
        mine = y[rows] == label
        turn[mine] = torch.arange(int(mine.sum()))
    return rows[(turn * 1_000_000 + y[rows]).argsort(stable=True)[:count]]
