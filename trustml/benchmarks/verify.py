"""Check every stored claim of a run again: bytes, ball, box, misreading, scores."""

from collections.abc import Iterator
from pathlib import Path

import torch

from trustml.access import frozen, in_blocks
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.harness import CASES, MODELS, RECORDS, SAMPLES
from trustml.benchmarks.judge import Exam, reread
from trustml.benchmarks.place import device_of, exact_arithmetic
from trustml.benchmarks.plan import Plan, read_plan
from trustml.benchmarks.samples import CLEAN_WRONG, FOOLED, NORMS, Samples
from trustml.benchmarks.scores import scores
from trustml.benchmarks.setting import Setting, examined, load_data, recorded_module
from trustml.contracts import Dataset, Record
from trustml.errors import BrokenClaim
from trustml.files import file_hash
from trustml.geometry import distance
from trustml.recipes import choose, read_recipe
from trustml.records import read_records
from trustml.splits import data_hash


def verify(folder: Path, device: str = "auto") -> Iterator[Record]:
    """Yield each record of the run once all its claims have been found to hold.

    Raises:
        BrokenClaim: the first claim that does not hold; case and sample are named.
        BadInput: the folder holds no run.
    """
    exact_arithmetic()
    plan = read_plan(folder)
    records = read_records(folder / RECORDS)
    # Bytes first: it is quick, and needs neither the data nor the model.
    stored = {r.case: _stored(r, folder) for r in records if r.samples}
    settings: dict[str, Setting] = {}
    dataset = load_data(plan.data, plan.data_dir) if stored else None
    for record in records:
        if dataset is not None and record.samples:
            if record.model not in settings:
                settings[record.model] = recorded_setting(plan, record, dataset, folder, device)
            _check(record, stored[record.case], settings[record.model], plan, device)
        yield record


def _stored(record: Record, folder: Path) -> Samples:
    path = folder / CASES / record.case / SAMPLES
    samples, _ = on_disk.read(path)
    if file_hash(path) != record.samples:
        raise BrokenClaim(f"{path} is not the file that the record of {record.case} speaks of")
    return samples


def recorded_setting(
    plan: Plan, record: Record, dataset: Dataset, folder: Path, device: str
) -> Setting:
    """Return the recorded model, from the run's own folder, on the recorded samples."""
    recipe = read_recipe(record.model)
    module = recorded_module(
        recipe, dataset.test.domain, plan.seed, (record.weights, folder / MODELS)
    )
    split = examined(plan, dataset.test)
    if data_hash(split) != record.data_hash:
        raise BrokenClaim(f"{record.case}: {plan.data} no longer holds the samples of this run")
    module.to(device_of(device)).eval()
    right = torch.ones(len(split), dtype=torch.bool)
    return Setting(recipe, module, record.weights, split, record.data_hash, right, ())


def _check(record: Record, samples: Samples, setting: Setting, plan: Plan, device: str) -> None:
    split, where = setting.split, device_of(device)
    if not torch.equal(samples.ids, split.ids):
        raise BrokenClaim(f"{record.case}: its samples are not those of the data")
    attack = choose("attack", plan.attacks[0])
    exam = Exam(
        setting, attack, record.threat["norm"], record.threat["epsilon"],
        record.threat["target"], plan.seed, 0, where,
    )  # fmt: skip
    x, moved = split.x.to(where), samples.adversarial.to(where)
    _hold(record, samples, exam.threat.contains(moved, x).cpu(), "is outside its ball or box")
    far = torch.stack([distance(moved, x, norm) for norm in NORMS], dim=1).cpu()
    _hold(
        record,
        samples,
        torch.isclose(far, samples.distances, rtol=1e-9).all(1),
        "lies at another distance",
    )
    fooled = samples.verdict == FOOLED
    answers = reread(exam, moved, exam.goals(split.y.to(where))).cpu()
    _hold(
        record,
        samples,
        answers == fooled,
        "is read otherwise than recorded",
        samples.verdict != CLEAN_WRONG,
    )
    clean = _right(setting, x, split.y.to(where)).cpu()
    _hold(
        record, samples, clean == (samples.verdict != CLEAN_WRONG), "is read otherwise when clean"
    )
    if scores(samples, split.high - split.low) != dict(record.scores):
        raise BrokenClaim(f"{record.case}: the scores do not follow from the samples")


def _right(setting: Setting, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with frozen(setting.module), torch.no_grad():
        return in_blocks(setting.module, x).argmax(1) == y


def _hold(
    record: Record,
    samples: Samples,
    holds: torch.Tensor,
    what: str,
    where: torch.Tensor | None = None,
) -> None:
    broken = (~holds if where is None else ~holds & where).nonzero().flatten()
    if len(broken):
        row = int(broken[0])
        raise BrokenClaim(
            f"{record.case}: sample {row} (id {int(samples.ids[row])}) {what} "
            f"(recorded on {record.place['device']}, {record.place['name']})"
        )
