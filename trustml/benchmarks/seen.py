"""What a run's detectors have seen, for pictures: suspicions of every set, the answers."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trustml.benchmarks.detected import SET, WRONG, read
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import finished
from trustml.benchmarks.outputs import outputs_of
from trustml.benchmarks.plan import read_plan
from trustml.benchmarks.setting import load_data
from trustml.benchmarks.verify import recorded_setting
from trustml.contracts import Outputs, Record, Score


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One model and seed.

    Args:
        name: of its cases.
        test: what the model said of the test set; `validation` of the validation set.
        wrong: (B,) which test answers are wrong.
        accuracies: set → accuracy, of the sets whose inputs show the model's classes.
        suspicions: detector → set → suspicions; the test set is called "test".
        class_names: of the K classes.
    """

    name: str
    test: Outputs
    validation: Outputs
    wrong: Tensor
    accuracies: dict[str, Score]
    suspicions: dict[str, dict[str, Tensor]]
    class_names: tuple[str, ...]


def seen(folder: Path) -> list[Seen]:
    """Return what each model's detectors saw; nothing where no detector is finished.

    Raises:
        BadInput: the folder holds no run.
        BrokenClaim: its files are damaged.
    """
    done = [record for record in finished(folder) if record.status == "done"]
    records = [record for record in done if record.kind == "detector"]
    groups = dict.fromkeys((record.model, record.seed) for record in records)
    if not groups:
        return []
    plan = checked(read_plan(folder))
    dataset, device = load_data(plan.data, plan.data_dir), torch.device("cpu")
    found = []
    for group in groups:
        mine = [record for record in records if (record.model, record.seed) == group]
        setting = recorded_setting(plan, mine[0], dataset, folder, device)
        stored = {r.case: read(folder / CASES / r.case / SAMPLES) for r in mine}
        suspicions = {
            _label(record.case, mine[0].case, mine[0].plugin): {
                name.removeprefix(SET): values
                for name, values in sorted(stored[record.case].items())
                if name == "test" or name.startswith(SET)
            }
            for record in mine
        }
        name = mine[0].case.removesuffix(f"-{mine[0].plugin}")
        test = outputs_of(setting, setting.split, device)
        validation = outputs_of(setting, dataset.validation, device)
        wrong = stored[mine[0].case][WRONG].bool()
        known = [r for r in done if r.kind == "calibration" and (r.model, r.seed) == group]
        accuracies = _accuracies(known[0]) if known else {}
        names = dataset.class_names
        found.append(Seen(name, test, validation, wrong, accuracies, suspicions, names))
    return found


def _accuracies(calibration: Record) -> dict[str, Score]:
    scores, end = calibration.scores, ": accuracy"
    others = {n.removesuffix(end): score for n, score in scores.items() if n.endswith(end)}
    return {"test": scores["accuracy"], **others}


def _label(case: str, first: str, plugin: str) -> str:
    """Return the detector's part of a case's name."""
    return case.removeprefix(first.removesuffix(plugin))
