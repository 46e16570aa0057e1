"""Cases of the exam of corruptions: what is answered to corrupted pictures, and the scores."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trustml.benchmarks.batch_rows import batch_rows
from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import MODELS, SAMPLES, Bench
from trustml.benchmarks.plan import Case
from trustml.benchmarks.setting import (
    blaming,
    clean_logits,
    placed,
    recorded_module,
    settle,
)
from trustml.contracts import Cost, Record, Score
from trustml.corrupting import SEVERITIES, corrupted
from trustml.errors import BrokenClaim, NotApplicable
from trustml.files import write_whole
from trustml.metrics import mean_share, proportion
from trustml.progress import progress
from trustml.randomness import keyed
from trustml.recipes import choose, read_recipe

ANSWERS, CLEAN, BASELINE, WEIGHTS = "answers", "clean answers", "baseline answers", "baseline"
_WIDTH = 1.959963984540054  # half of a 95 % interval, in standard deviations


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of one corruption, or of all of them together.

    Raises:
        NotApplicable: the corruption does not suit the data, or none was finished.
        MethodFailed: it raised, or broke its contract.
    """
    began = time.perf_counter()
    options = dict(blank.options)
    if case.kind == "corruptions":
        done = _finished(bench)
        options["of"] = [record.case for record in done]
        scores = scores_of([read(bench.home(name) / SAMPLES) for name in options["of"]], bench)
        missing = [r.plugin for r in _all(bench) if r.status != "done"]
        notes = [f"without {', '.join(missing)}"] if missing else []
        return replace(
            blank, options=options, scores=scores, status="done", notes=tuple(notes),
            cost=Cost(sum(record.cost.seconds for record in done)),
        )  # fmt: skip
    found = _answered(case, bench, bench.setting.module, _baseline(case, bench))
    content = save({name: tensor.contiguous() for name, tensor in sorted(found.items())})
    write_whole(bench.home(case.name) / SAMPLES, content)
    passes = float(len(SEVERITIES))
    return replace(
        blank,
        scores=scores_of([found], bench),
        cost=Cost(time.perf_counter() - began, passes, 0.0, passes),
        status="done",
        samples=hashlib.sha256(content).hexdigest(),
    )


def scores_of(found: Sequence[Mapping[str, Tensor]], bench: Bench) -> dict[str, Score]:
    """Return the scores that follow from the answers to one corruption or to several.

    The corruption error is the mean over severities and corruptions; the relative one divides, for
    each corruption, the sum of the errors by that of the baseline's, and is 1 for the baseline
    itself (Hendrycks & Dietterich 2019, section 4.2). Intervals are over the samples.
    """
    y = bench.setting.split.y[:, None]
    wrong = [(one[ANSWERS] != y).double() for one in found]
    right = int((found[0][CLEAN] == y[:, 0]).sum())
    scores = {"clean accuracy": proportion(right, len(y))}
    for place, severity in enumerate(SEVERITIES):
        fine = 1 - torch.stack([each[:, place] for each in wrong]).mean(0)
        name = f"accuracy at severity {severity}"
        scores[name] = (
            proportion(int(fine.sum()), len(fine))
            if len(found) == 1
            else mean_share(fine, "higher", len(found))
        )
    errors = torch.stack(wrong).mean((0, 2))
    scores["corruption error"] = mean_share(errors, "lower", len(found) * len(SEVERITIES))
    if BASELINE in found[0]:
        others = [(one[BASELINE] != y).double() for one in found]
        relative = _relative(wrong, others)
        if relative is not None:
            scores["relative corruption error"] = relative
    return scores


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check that corrupted pictures are answered as recorded, and the scores.

    Raises:
        BrokenClaim: they are not.
    """
    if case.kind == "corruptions":
        named = record.options.get("of", [])
        known = {one.case for one in _finished(bench)}
        if not named or any(name not in known for name in named):
            raise BrokenClaim(f"{record.case}: not every corruption that it is of is there")
        found = [read(bench.home(name) / SAMPLES) for name in named]
    else:
        kept = read(bench.home(case.name) / SAMPLES)
        again = _answered(case, bench, bench.setting.module, _recorded(case, record, bench, kept))
        for name, tensor in again.items():
            if name not in kept or not torch.equal(kept[name], tensor):
                raise BrokenClaim(f"{record.case}: the {name} are others than recorded")
        found = [kept]
    if not close(scores_of(found, bench), record.scores):
        raise BrokenClaim(f"{record.case}: the scores do not follow from the answers")


def read(path: Path) -> dict[str, Tensor]:
    """Return what a case has kept.

    Raises:
        BrokenClaim: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


def _answered(
    case: Case, bench: Bench, module: nn.Module, baseline: tuple[nn.Module, str] | None
) -> dict[str, Tensor]:
    """Return the classes answered to the pictures, clean (N,) and corrupted (N, 5)."""
    split, chosen = bench.setting.split, choose("corruption", case.text)
    box, given = (split.low, split.high), chosen.options
    models = {ANSWERS: module} | ({BASELINE: baseline[0]} if baseline else {})
    answers: dict[str, list[Tensor]] = {name: [] for name in models}
    with progress(case.name, len(SEVERITIES) * len(split)) as advance:
        for severity in SEVERITIES:
            parts = []
            for batch in split.batches(batch_rows(bench)):
                random = keyed(case.seed, batch.ids).fold(severity)
                own = {**given, "random": random}
                with blaming(f"corruption {chosen.plugin.name}"):
                    parts.append(corrupted(chosen.plugin.function, batch.x, box, severity, own))
                advance(len(batch))
            changed = replace(split, x=torch.cat(parts))
            for name, each in models.items():
                answers[name].append(clean_logits(each, changed, bench.device).argmax(1).cpu())
    found = {name: torch.stack(said, 1) for name, said in answers.items()}
    found[CLEAN] = clean_logits(module, split, bench.device).argmax(1).cpu()
    if baseline is not None:
        found[WEIGHTS] = torch.tensor(list(bytes.fromhex(baseline[1])), dtype=torch.uint8)
    return found


def _baseline(case: Case, bench: Bench) -> tuple[nn.Module, str] | None:
    """Return the model that errors are divided by and its weights' hash, if one is named."""
    text = bench.plan.corruption_baseline
    if not text:
        return None
    if "baseline" not in bench.memory:
        plan = replace(bench.plan, seed=case.seed)
        recipe, keep = read_recipe(text), bench.folder / MODELS
        setting = settle(plan, recipe, bench.dataset, bench.device, keep)
        bench.memory["baseline"] = setting.module, setting.weights_hash
    known: tuple[nn.Module, str] = bench.memory["baseline"]
    return known


def _recorded(
    case: Case, record: Record, bench: Bench, kept: Mapping[str, Tensor]
) -> tuple[nn.Module, str] | None:
    """Return the baseline from the run's own folder.

    Raises:
        BrokenClaim: it is missing, damaged, or another.
    """
    if not bench.plan.corruption_baseline:
        return None
    digest = bytes(kept[WEIGHTS].tolist()).hex() if WEIGHTS in kept else ""
    if bench.memory.get("baseline", (None, ""))[1] != digest:
        recipe = read_recipe(bench.plan.corruption_baseline)
        where = (digest, bench.folder / MODELS)
        module = recorded_module(recipe, bench.setting.split.domain, record.seed, where)
        bench.memory["baseline"] = placed(module, bench.device), digest
    known: tuple[nn.Module, str] = bench.memory["baseline"]
    return known


def _all(bench: Bench) -> list[Record]:
    return [record for record in bench.group if record.kind == "corruption"]


def _finished(bench: Bench) -> list[Record]:
    """Return the records of finished corruptions.

    Raises:
        NotApplicable: there is none.
    """
    done = [record for record in _all(bench) if record.status == "done"]
    if not done:
        raise NotApplicable("no corruption was finished, so there is nothing to sum up")
    return done


def _relative(wrong: Sequence[Tensor], errors: Sequence[Tensor]) -> Score | None:
    """Return the mean ratio of two models' errors (N, 5) a corruption; None where one is of 0.

    The interval by the delta method on the logarithm, so that errors that were seen are never none:
    what each sample adds to the ratios, to first order. Where no error was seen, the most that can
    hide divided by the baseline's.
    """
    ratios, pulls = [], []
    for own, other in zip(wrong, errors, strict=True):
        base = float(other.mean())
        if not base:
            return None
        ratios.append(float(own.mean()) / base)
        pulls.append((own.mean(1) - ratios[-1] * other.mean(1)) / base)
    value, pull = sum(ratios) / len(ratios), torch.stack(pulls).mean(0)
    if not value:
        hidden = mean_share(wrong[0].mean(1), "lower").high
        return Score(0.0, 0.0, hidden / float(torch.stack(list(errors)).mean()), "lower")
    reach = _WIDTH * float(pull.std()) / len(pull) ** 0.5 / value if len(pull) > 1 else math.inf
    return Score(value, value * math.exp(-reach), value * math.exp(min(reach, 700.0)), "lower")
