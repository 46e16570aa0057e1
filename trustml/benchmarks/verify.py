"""Check every stored claim of a run again: bytes, ball, box, misreading, scores."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from trustml.access import frozen, in_blocks
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.harness import CASES, MODELS, RECORDS, SAMPLES
from trustml.benchmarks.judge import Exam, reread
from trustml.benchmarks.place import device_of, exact_arithmetic
from trustml.benchmarks.plan import ALL, Case, Plan, cases, checked, read_plan, threat_facts
from trustml.benchmarks.samples import CLEAN_WRONG, FOOLED, NORMS, Samples
from trustml.benchmarks.scores import cost, scores, worst_case
from trustml.benchmarks.setting import Setting, examined, load_data, recorded_module
from trustml.contracts import Dataset, Record, Score
from trustml.errors import BadInput, BrokenClaim
from trustml.files import file_hash
from trustml.geometry import distance
from trustml.recipes import choose, read_recipe
from trustml.records import plain, read_records
from trustml.splits import data_hash


def verify(folder: Path, device: str = "auto") -> Iterator[Record]:
    """Yield each record of the run once all its claims have been found to hold.

    Raises:
        BrokenClaim: the first claim that does not hold; case and sample are named.
        UsageError: the folder holds no run, or its data or plugins are no longer to be had.
    """
    exact_arithmetic()
    where, plan = device_of(device), checked(read_plan(folder))
    try:
        records = read_records(folder / RECORDS)
    except BadInput as error:
        raise BrokenClaim(str(error)) from error
    # Bytes first: it is quick, and needs neither the data nor the model.
    stored = {r.case: _stored(r, folder) for r in records if r.status == "done"}
    dataset = load_data(plan.data, plan.data_dir)
    planned = {case.name: case for case in cases(plan, dataset)}
    settings: dict[tuple[str, str, str], Setting] = {}
    for record in records:
        case = planned.get(record.case)
        if case is None or not _is_of(record, case, plan):
            raise BrokenClaim(f"{record.case}: what its record says is not what the plan says")
        if record.status == "done":
            of = (record.model, record.weights, record.data_hash)
            if of not in settings:
                settings[of] = recorded_setting(plan, record, dataset, folder, where)
            _check(record, stored[record.case], settings[of], plan, where)
            if record.kind == "union":
                _check_union(record, stored)
        yield record


def recorded_setting(
    plan: Plan, record: Record, dataset: Dataset, folder: Path, device: torch.device
) -> Setting:
    """Return the recorded model, from the run's own folder, on the recorded samples.

    Raises:
        BrokenClaim: the weights or the samples are not those of the record.
    """
    recipe, split = read_recipe(record.model), examined(plan, dataset.test)
    module = recorded_module(recipe, split.domain, plan.seed, (record.weights, folder / MODELS))
    if data_hash(split) != record.data_hash:
        raise BrokenClaim(f"{record.case}: {plan.data} no longer holds the samples of this run")
    module.to(device).eval()
    right = torch.ones(len(split), dtype=torch.bool)
    return Setting(recipe, module, record.weights, split, record.data_hash, right, ())


def _stored(record: Record, folder: Path) -> Samples:
    path = folder / CASES / record.case / SAMPLES
    samples, _ = on_disk.read(path)
    if file_hash(path) != record.samples:
        raise BrokenClaim(f"{path} is not the file that the record of {record.case} speaks of")
    return samples


def _is_of(record: Record, case: Case, plan: Plan) -> bool:
    """Return whether the record says what the plan says of its case."""
    facts = [record.kind, record.plugin, record.model, record.data, record.seed]
    if case.attack is None:
        wanted = ["union", ALL, case.model, plan.data, plan.seed]
        return facts == wanted and threat_facts(plan, case).items() <= record.threat.items()
    attack = choose("attack", case.attack)
    wanted = ["attack", attack.plugin.name, case.model, plan.data, plan.seed]
    same = facts == wanted and record.options == plain(attack.options)
    return same and threat_facts(plan, case).items() <= record.threat.items()


def _check(
    record: Record, samples: Samples, setting: Setting, plan: Plan, where: torch.device
) -> None:
    """Check what a record says of its samples against the model and the data.

    Raises:
        BrokenClaim: something is not so.
    """
    split, wrong = setting.split, samples.verdict == CLEAN_WRONG
    if not torch.equal(samples.ids, split.ids):
        raise BrokenClaim(f"{record.case}: its samples are not those of the data")
    facts = record.threat
    attack = choose("attack", plan.attacks[0])  # whichever: it is not run
    exam = Exam(
        setting, attack, facts["norm"], facts["epsilon"], facts["target"], plan.seed, 0, where
    )
    x, y, moved = split.x.to(where), split.y.to(where), samples.adversarial.to(where)
    _hold(record, samples, exam.threat.contains(moved, x), "is outside its ball or box")
    far = torch.stack([distance(moved, x, norm) for norm in NORMS], dim=1).cpu()
    near = torch.isclose(far, samples.distances, rtol=1e-9).all(1)
    _hold(record, samples, near, "lies at another distance")
    answers = reread(exam, moved, exam.goals(y)).cpu()
    so = (answers == (samples.verdict == FOOLED)) | wrong
    _hold(record, samples, so, "is read otherwise than recorded")
    clean = _right(setting, x, y).cpu()
    _hold(record, samples, clean != wrong, "is read otherwise when clean")
    found = scores(samples, split.high - split.low)
    costs = cost(samples, record.cost.seconds, record.cost.peak_mib)
    if not (_close(found, record.scores) and costs == record.cost):
        raise BrokenClaim(f"{record.case}: the scores do not follow from the samples")


def _check_union(record: Record, stored: dict[str, Samples]) -> None:
    """Check that all together are the worst case of the attacks that they are said to be of.

    Raises:
        BrokenClaim: they are not, or one of the attacks is missing.
    """
    named = record.options.get("of", [])
    if not named or any(name not in stored for name in named):
        raise BrokenClaim(f"{record.case}: not every attack that it is of is there")
    worst = worst_case([stored[name] for name in named], record.threat["norm"])
    same = (worst.digest == stored[record.case].digest).all(1)
    _hold(record, stored[record.case], same, "is not the worst case of the attacks")


def _close(found: Mapping[str, Score], claimed: Mapping[str, Score]) -> bool:
    """Return whether the scores agree, up to what another version of a library may round."""
    return found.keys() == claimed.keys() and all(
        math.isclose(getattr(found[name], part), getattr(claimed[name], part), abs_tol=1e-9)
        for name in found
        for part in ("value", "low", "high")
    )


def _right(setting: Setting, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with frozen(setting.module), torch.no_grad():
        return in_blocks(setting.module, x).argmax(1) == y


def _hold(record: Record, samples: Samples, holds: torch.Tensor, what: str) -> None:
    broken = (~holds.cpu()).nonzero().flatten()
    if len(broken):
        row = int(broken[0])
        made = f"{record.place.get('device')}, {record.place.get('name')}"
        raise BrokenClaim(
            f"{record.case}: sample {row} (id {int(samples.ids[row])}) {what} (recorded on {made})"
        )
