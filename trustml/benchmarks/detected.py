"""Cases of the exam of detectors: suspicions of every set, kept, and the scores that follow."""

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.outputs import outputs_of
from trustml.benchmarks.outside import attacked_splits, outside_split
from trustml.benchmarks.plan import Case, Plan
from trustml.benchmarks.slipped import Posted, check_slipped, passed, slipped
from trustml.benchmarks.stolen import is_thief, stolen_split
from trustml.benchmarks.suspicion import check_shown, checked, learnt
from trustml.calibration import calibration_scores, temperature_scaling
from trustml.chains import read_chain, rows_of
from trustml.conformal import (
    adaptive_sets,
    conformal_quantile,
    conformal_scores,
    split_conformal,
)
from trustml.contracts import Access, Cost, Dataset, Outputs, Record, Score, Split
from trustml.deployment import access_of, is_remote
from trustml.errors import BadInput, BrokenClaim, NotApplicable
from trustml.files import write_whole
from trustml.metrics import proportion
from trustml.partners import has_host_labels
from trustml.separation import failure_scores, outside_scores

DRAWS = 20  # networks that a Bayesian model is asked as
TEST, WRONG, THRESHOLD = "test", "wrong", "threshold"
SET = "set "  # before the name of a set that is not the test set
Sets = Mapping[str, Outputs]


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of the model's calibration, or of one detector.

    Raises:
        NotApplicable: the detector does not suit the model.
        MethodFailed: it raised, or broke its contract.
    """
    shown = access_of(bench.setting.module)
    if case.kind == "calibration":
        if shown < Access.PROBABILITIES:
            raise NotApplicable("calibration needs probabilities, and this model shows labels")
        return _calibrated(case, blank, bench, _sets(case, bench))
    chain = read_chain(case.text)
    check_shown(chain, shown, aware="aware" in case.threat)
    sets = _sets(case, bench)
    if "draws" in chain.reads:
        sets = _with_draws(bench)
    began = time.perf_counter()
    tuned, kept = _halves(sets["validation"])
    raw = learnt(chain, bench.setting.module, sets["train"], tuned)
    scorer = checked(raw)
    found = {TEST: scorer(sets["test"])}
    found |= {SET + name: scorer(outputs) for name, outputs in sets.items() if name not in _OWN}
    seconds = time.perf_counter() - began
    threshold = conformal_quantile(scorer(kept), bench.plan.false_alarms)
    found[WRONG] = (~bench.setting.right).to(torch.uint8)
    found[THRESHOLD] = torch.tensor([threshold], dtype=torch.float64)
    unled: list[str] = []
    if "aware" in case.threat:
        posted = Posted(raw, threshold, DRAWS if "draws" in chain.reads else 0)
        slips, unled = slipped(case, bench, posted)
        found |= slips
    scores, notes = scores_of(found)
    notes += unled + _asked_about(bench)
    return replace(
        blank,
        scores=scores,
        cost=Cost(seconds),
        status="done",
        notes=tuple(notes),
        samples=_write(found, bench.home(case.name) / SAMPLES),
    )


def scores_of(found: Mapping[str, Tensor]) -> tuple[dict[str, Score], list[str]]:
    """Return the scores that follow from stored suspicions, and what is to be said of them.

    For each set: AUROC, AUPR, both FPR95, its share in all (which is what a blind score's AUPR-out
    would be), and the share that the gate stops; of the test set the
    same about its errors, the gate's false alarms, and what passes after an attack that knows it.
    """
    test, threshold = found[TEST], float(found[THRESHOLD])
    scores = {"false alarms": _stopped(test, threshold, "lower")}
    notes: list[str] = []
    scores |= passed(found, threshold)
    if math.isinf(threshold):
        notes.append(
            "the gate stops nothing: so few false alarms take more validation samples than there "
            "are; raise --false-alarms"
        )
    try:
        errors = failure_scores(test, found[WRONG].bool())
        scores |= {f"errors: {name}": score for name, score in errors.scores.items()}
        scores["errors: base rate"] = _exactly(errors.odd_share)
        notes += [f"errors: {note}" for note in errors.notes]
    except BadInput as error:
        notes.append(f"no failures to foretell: {error}")
    for key, suspicion in found.items():
        if key.startswith(SET):
            name = key.removeprefix(SET)
            apart = outside_scores(test, suspicion)
            scores |= {f"{name}: {metric}": score for metric, score in apart.scores.items()}
            scores[f"{name}: base rate"] = _exactly(apart.odd_share)
            scores[f"{name}: stopped"] = _stopped(suspicion, threshold, "higher")
            notes += [f"{name}: {note}" for note in apart.notes]
    worst = [score for name, score in scores.items() if _is_of_set(name, "auroc")]
    if worst:
        scores["worst auroc"] = min(worst, key=lambda score: score.value)
    return scores, notes


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check that the scores follow from the suspicions, and the errors from the model.

    Raises:
        BrokenClaim: they do not.
    """
    if case.kind == "calibration":
        again, _ = _calibration(_sets(case, bench))
        if not close(again, record.scores):
            raise BrokenClaim(f"{record.case}: the scores do not follow from the model's answers")
        return
    found = read(bench.home(case.name) / SAMPLES)
    wrong = (~bench.setting.right).to(torch.uint8)
    if not torch.equal(found[WRONG], wrong):
        row = int((found[WRONG] != wrong).nonzero()[0])
        raise BrokenClaim(f"{record.case}: sample {row} is read otherwise than recorded")
    check_slipped(case, bench, found)
    if not close(scores_of(found)[0], record.scores):
        raise BrokenClaim(f"{record.case}: the scores do not follow from the suspicions")


def read(path: Path) -> dict[str, Tensor]:
    """Return the suspicions of a case.

    Raises:
        BrokenClaim: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


_OWN = ("train", "validation", "test")


def _sets(case: Case, bench: Bench) -> dict[str, Outputs]:
    """Return the outputs of train, validation, test and every set, once for all detectors."""
    known: dict[str, Outputs] = bench.memory.setdefault("outputs", {})
    if not known:
        data = bench.dataset
        splits = {"train": data.train, "validation": data.validation, "test": bench.setting.split}
        if (most := _most(bench)) is not None:
            splits |= {name: splits[name].at(slice(0, most)) for name in ("train", "validation")}
        for name in case.threat["outside"]:
            splits[name] = (
                stolen_split(name, bench)
                if is_thief(name)
                else outside_split(name, bench.plan, data)
            )
        splits |= attacked_splits(bench)
        known |= {
            name: outputs_of(bench.setting, split, bench.device) for name, split in splits.items()
        }
    return known


def asked_at_most(plan: Plan, dataset: Dataset) -> int:
    """Return how many training samples a server is asked about, and how many validation ones.

    It may charge for each: no more than test samples, whichever shard of them is examined.
    """
    return min(len(dataset.test), plan.limit or len(dataset.test))


def _most(bench: Bench) -> int | None:
    """Return how many samples detectors may learn from at most; None of a model at hand."""
    remote = is_remote(bench.setting.module)
    return asked_at_most(bench.plan, bench.dataset) if remote else None


def _asked_about(bench: Bench) -> list[str]:
    """Say so where a server was not asked about all samples that a detector could learn from."""
    most, data = _most(bench), bench.dataset
    known = {"training": len(data.train), "validation": len(data.validation)}
    if most is None or most >= max(known.values()):
        return []
    told = " and ".join(f"{min(most, n):,} of {n:,} {name}" for name, n in known.items())
    return [f"the server was asked about {told} samples, no more than test samples"]


def _with_draws(bench: Bench) -> dict[str, Outputs]:
    """Return the sets with the logits of drawn networks, but for the large training split."""
    drawn: dict[str, Outputs] = bench.memory.setdefault("drawn", {})
    if not drawn:
        for name, outputs in bench.memory["outputs"].items():
            drawn[name] = outputs if name == "train" else _drawn(bench, outputs)
    return drawn


def _drawn(bench: Bench, outputs: Outputs) -> Outputs:
    test = bench.setting.split
    ids = torch.arange(len(outputs.y))
    split = Split(outputs.x, outputs.y, ids, test.classes, test.low, test.high)
    return outputs_of(bench.setting, split, bench.device, DRAWS)


def _halves(validation: Outputs) -> tuple[Outputs, Outputs]:
    """Return what a detector may tune itself on, and what its gate's threshold is read from."""
    middle = len(validation.y) // 2
    return rows_of(validation, slice(0, middle)), rows_of(validation, slice(middle, None))


def _calibrated(case: Case, blank: Record, bench: Bench, sets: Sets) -> Record:
    began = time.perf_counter()
    scores, notes = _calibration(sets)
    notes += _asked_about(bench)
    cost = Cost(time.perf_counter() - began)
    return replace(blank, scores=scores, cost=cost, status="done", notes=tuple(notes))


def _calibration(sets: Sets) -> tuple[dict[str, Score], list[str]]:
    """Return accuracies, calibration as it is and after temperature scaling, and 90 % sets."""
    test, validation = sets["test"], sets["validation"]
    scores = {"accuracy": _accuracy(test)}
    for name in sets:
        if name not in _OWN and has_host_labels(name):
            scores[f"{name}: accuracy"] = _accuracy(sets[name])
    scores |= calibration_scores(test.logits, test.y)
    tuned, kept = _halves(validation)
    scaled = temperature_scaling(tuned.logits, tuned.y)
    for name, score in calibration_scores(scaled(test.logits), test.y).items():
        scores[f"scaled: {name}"] = score
    for kind, method in (("sets", split_conformal), ("adaptive sets", adaptive_sets)):
        fitted = method(kept.logits, kept.y)
        for name, score in conformal_scores(fitted(test.logits), test.y).items():
            scores[f"{kind}: {name}"] = score
    return scores, []


def _accuracy(outputs: Outputs) -> Score:
    right = outputs.logits.argmax(1) == outputs.y
    return proportion(int(right.sum()), len(right))


def _stopped(suspicion: Tensor, threshold: float, better: str) -> Score:
    return proportion(int((suspicion > threshold).sum()), len(suspicion), better)  # type: ignore[arg-type]


def _exactly(value: float) -> Score:
    """Return a share that the samples themselves fix, so that nothing about it is uncertain."""
    return Score(value, value, value, "lower")


def _is_of_set(name: str, metric: str) -> bool:
    return name.endswith(f": {metric}") and not name.startswith("errors: ")


def _write(found: Mapping[str, Tensor], path: Path) -> str:
    content = save({name: tensor.contiguous() for name, tensor in sorted(found.items())})
    write_whole(path, content)
    return hashlib.sha256(content).hexdigest()
