"""Cases of the exam of inspections: what is said of a model and of its controls, and the scores."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import MODELS, SAMPLES, Bench, Shard
from trustml.benchmarks.honest_models import Honest, honest_models
from trustml.benchmarks.inspection_controls import (
    CONTROLS,
    FAR,
    OWN,
    comparable,
    files,
    inspected,
    is_alarm,
    make,
    oddness,
    suspicions,
)
from trustml.benchmarks.inspection_sight import check_sight
from trustml.benchmarks.inspection_transfer import ELSEWHERE, HERE, natural, turned
from trustml.benchmarks.plan import Case
from trustml.benchmarks.setting import (
    Setting,
    blaming,
    clean_logits,
    facts_file,
    placed,
    recorded_module,
    settle,
)
from trustml.contracts import Cost, Dataset, Record, Score, Split
from trustml.errors import BrokenClaim, MethodFailed
from trustml.files import write_whole
from trustml.metrics import proportion
from trustml.randomness import keyed
from trustml.recipes import check_trainable, choose

Trigger = Callable[[Tensor], Tensor] | None
TRIGGERS, TRUE = "triggers", "true trigger"
HIT, RIGHT, TARGET, WEIGHTS = "hit", "right", "target", "weights"
RAW, USUAL, FROM = "suspicion", "suspicion of honest models", "alarm from"


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of one inspection of the model as it is, or poisoned.

    Raises:
        NotApplicable: the inspection or the poison does not suit the model or the data.
        MethodFailed: one of them raised, or broke its contract.
    """
    look = choose("inspection", case.text)
    setting, trigger = _subject(case, bench)
    check_sight(look, setting, bench, case.seed)
    honest = honest_models(bench)
    began = time.perf_counter()
    said = inspected(look, setting.module, bench)
    seconds = time.perf_counter() - began
    found = {OWN: said.suspicion, CONTROLS: suspicions(bench, look)}
    if honest.far is not None:
        found[FAR] = torch.tensor(honest.far, dtype=torch.float64)
    if said.triggers is not None:
        found[TRIGGERS] = said.triggers
    if is_alarm(found, bench.plan.false_alarms):
        found |= turned(said, setting.module, bench)
    found |= _known(case, bench, setting, trigger)
    scores = scores_of(found, bench.plan.false_alarms)
    content = save({name: tensor.contiguous() for name, tensor in sorted(found.items())})
    write_whole(bench.home(case.name) / SAMPLES, content)
    return replace(
        blank,
        scores=scores,
        cost=Cost(seconds),
        status="done",
        notes=(*blank.notes, *_told(honest)),
        samples=hashlib.sha256(content).hexdigest(),
    )


def shards(case: Case, bench: Bench) -> list[Shard]:
    """Return the honest models, each with what is said of it, and the poisoned one.

    Raises:
        NotApplicable: there are no honest models to compare with.
    """
    look = choose("inspection", case.text)
    found = {path: seed for seed, path in files(bench, look).items()}
    if _poison_of(case) != "none":
        keep = bench.folder / MODELS / _room(_poison_of(case))
        found[facts_file(bench.setting.recipe, case.seed, keep)] = -1
    return [Shard(path.relative_to(bench.folder).as_posix(), what) for path, what in found.items()]


def make_shard(case: Case, bench: Bench, shard: Shard) -> None:
    """Train and inspect an honest model, or train the poisoned one.

    Raises:
        TrustError: it cannot be trained or inspected.
    """
    if shard.what < 0:
        _subject(case, bench)
    else:
        make(bench, choose("inspection", case.text), shard.what)


def scores_of(found: Mapping[str, Tensor], rate: float) -> dict[str, Score]:
    """Return the scores that follow from what was kept.

    The p-value is the share of honest models, this one counted as one, whose oddest class is at
    least as odd: an alarm where it is at most the rate. The AUROC compares this model alone with
    the controls; its mean over seeds is that of poisoned models against honest ones. Deviations
    are the oddest class's distance from the honest models, and how many times that of the oddest
    honest model it is; its suspicion stands beside the median of honest models, as the inspection
    measures it. Where the controls are of another kind, an alarm takes so many times, too,
    and a class half as far again from its model's median class as any of a control: trainings alike
    differ so little among themselves that deviations alone would accuse another honest training.
    A class whose trigger turns honest models, too, raises no alarm: it is a shortcut of the data.
    """
    own, controls = oddness(*comparable(found))
    named, count = int(own.argmax()), len(controls)
    shortcut = natural(found)
    if bool(shortcut.any()) and is_alarm(found, rate, ~shortcut):
        named = int(own.masked_fill(shortcut, -torch.inf).argmax())
    as_odd = int((controls >= own[named]).sum())
    p = (1 + as_odd) / (count + 1)
    times = float(own[named] / controls.amax().clamp_min(1e-9))
    alarm = float(is_alarm(found, rate, ~shortcut))
    scores = {
        "p value": _exactly(p, "lower"),
        "alarm raised": _exactly(alarm, "higher" if HIT in found else "lower"),
        "oddest class": _exactly(float(named), "lower"),
        "deviations": _exactly(float(own[named]), "lower"),
        "times the oddest": _exactly(times, "lower"),
        RAW: _exactly(float(found[OWN][named]), "lower"),
        USUAL: _exactly(float(found[CONTROLS][:, named].median())),
    }
    if FAR in found:
        scores[FROM] = _exactly(max(1.0, float(found[FAR])))
    if HERE in found:
        scores["trigger turns"] = _exactly(float(found[HERE][named]), "lower")
        scores["trigger turns honest models"] = _exactly(float(found[ELSEWHERE][named]))
    if RIGHT in found:
        right = found[RIGHT]
        scores["accuracy"] = proportion(int(right.sum()), len(right))
    if HIT in found:
        below = int((controls < own.amax()).sum())
        hit = found[HIT]
        scores["auroc"] = proportion(below, count)
        scores["trigger works"] = proportion(int(hit.sum()), len(hit), "lower")
        scores["target named"] = _exactly(float(alarm > 0 and named == int(found[TARGET])))
    return scores


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check that the model is the recorded one, that it looks as odd again, and the scores.

    Raises:
        BrokenClaim: they do not hold.
    """
    found = read(bench.home(case.name) / SAMPLES)
    setting, trigger = _recorded(case, record, bench, found)
    now = inspected(choose("inspection", case.text), setting.module, bench).suspicion
    # An optimiser's last digits grow on another device; honest models differ by much more.
    room = found[CONTROLS].std(0).clamp_min(1e-6)
    if bool(((now - found[OWN]).abs() > room).any()):
        raise BrokenClaim(f"{record.case}: inspected again, the model looks otherwise")
    for name, tensor in _known(case, bench, setting, trigger).items():
        if name not in found or not torch.equal(found[name], tensor):
            raise BrokenClaim(f"{record.case}: {name!r} is not what the model and the poison say")
    scores = scores_of(found, bench.plan.false_alarms)
    # Runs of older versions have no such scores.
    again = {k: v for k, v in scores.items() if k in record.scores or k not in (RAW, USUAL, FROM)}
    if not close(again, record.scores):
        raise BrokenClaim(f"{record.case}: the scores do not follow from the suspicions")


def read(path: Path) -> dict[str, Tensor]:
    """Return what a case has kept.

    Raises:
        BrokenClaim: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


def _told(honest: Honest) -> tuple[str, ...]:
    if honest.far is None:
        return ()
    more = (
        f", and an alarm takes {honest.far:g} times the oddness of the oddest"
        if honest.far > 1
        else ""
    )
    return (
        f"compared with {honest.told}: how the model was trained is not known, so that classes are "
        f"first compared with their own model's median{more}; the rate of alarms is an estimate",
    )


def _subject(case: Case, bench: Bench) -> tuple[Setting, Trigger]:
    """Return the model that is inspected, and the trigger that was planted in it, if any."""
    if _poison_of(case) == "none":
        return bench.setting, None
    known: dict[str, tuple[Setting, Trigger]] = bench.memory.setdefault("backdoored", {})
    poison = _poison_of(case)
    if poison not in known:
        check_trainable(bench.setting.recipe)
        dataset, trigger = _poisoned(case, bench)
        plan = replace(bench.plan, seed=case.seed)
        keep = bench.folder / MODELS / _room(poison)
        known[poison] = settle(plan, bench.setting.recipe, dataset, bench.device, keep), trigger
    return known[poison]


def _recorded(
    case: Case, record: Record, bench: Bench, found: Mapping[str, Tensor]
) -> tuple[Setting, Trigger]:
    """Return the inspected model from the run's own folder, and its trigger.

    Raises:
        BrokenClaim: it is missing, damaged, or another.
    """
    if _poison_of(case) == "none":
        return bench.setting, None
    digest = bytes(found[WEIGHTS].tolist()).hex() if WEIGHTS in found else ""
    where = (digest, bench.folder / MODELS / _room(_poison_of(case)))
    recipe = bench.setting.recipe
    module = recorded_module(recipe, bench.setting.split.domain, record.seed, where)
    module = placed(module, bench.device)
    setting = replace(bench.setting, module=module, weights_hash=digest)
    return setting, _poisoned(case, bench)[1]


def _known(case: Case, bench: Bench, setting: Setting, trigger: Trigger) -> dict[str, Tensor]:
    """Return what the exam knows of the model itself: right answers, and what the trigger does."""
    split = bench.setting.split
    answers = clean_logits(setting.module, split, bench.device).argmax(1).cpu()
    digest = torch.tensor(list(bytes.fromhex(setting.weights_hash)), dtype=torch.uint8)
    found = {RIGHT: (answers == split.y.cpu()).to(torch.uint8), WEIGHTS: digest}
    if trigger is None:
        return found
    target = int(choose("poison", _poison_of(case)).options.get("target", 0))
    rows = split.y != target
    with blaming("the trigger"):
        marked = trigger(split.x[rows]).clamp(split.low, split.high)
        dark = torch.full_like(split.x[:1], split.low)
        shown = trigger(dark)[0].clamp(split.low, split.high)
    of_marked = replace(split, x=marked, y=split.y[rows], ids=split.ids[rows])
    answers = clean_logits(setting.module, of_marked, bench.device).argmax(1).cpu()
    return found | {
        HIT: (answers == target).to(torch.uint8),
        TARGET: torch.tensor(target),
        TRUE: shown.float().cpu(),
    }


def _poisoned(case: Case, bench: Bench) -> tuple[Dataset, Trigger]:
    """Return the data with their training split poisoned, and the trigger.

    Raises:
        NotApplicable: the poison plants no backdoor, or does not suit the data.
        MethodFailed: it raised, or returned something that is no split.
    """
    poison, train = choose("poison", _poison_of(case)), bench.dataset.train
    with blaming(f"poison {poison.plugin.name}"):
        made: Any = poison.plugin.function(
            train, random=keyed(case.seed, train.ids), **poison.options
        )
        bad, trigger = made
    if not isinstance(bad, Split) or bad.domain != train.domain or not len(bad):
        raise MethodFailed(f"poison {poison.plugin.name} did not return a split of these data")
    return replace(bench.dataset, train=bad), trigger


def _poison_of(case: Case) -> str:
    assert case.options is not None
    return str(case.options["poison"])


def _room(poison: str) -> str:
    return "backdoored-" + hashlib.sha256(poison.encode()).hexdigest()[:16]


def _exactly(value: float, better: Any = "higher") -> Score:
    """Return a number that the models themselves fix, so that nothing about it is uncertain."""
    return Score(value, value, value, better)
