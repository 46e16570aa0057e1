"""Cases of the exam of explanations: maps and figures of a method, and the methods side by side."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.access import frozen
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.explained import Explained
from trustml.benchmarks.explanation_metrics import PRICES
from trustml.benchmarks.explanation_question import Question, explainer
from trustml.benchmarks.explanation_sanity import agreement
from trustml.benchmarks.explanation_scores import (
    Difference,
    Measured,
    compare,
    holm,
    mean_of,
    median_of,
)
from trustml.benchmarks.explanation_shuffled import learnt_shuffled
from trustml.benchmarks.explanations import KNOW_NOTHING, NOTHING, REFERENCES
from trustml.benchmarks.explanations import examine as examine_method
from trustml.benchmarks.plan import Case
from trustml.contracts import Access, Classifier, Json, Record, Score
from trustml.deployment import access_of, check_access
from trustml.errors import BrokenClaim, NotApplicable
from trustml.files import write_whole
from trustml.recipes import choose

ASIDE = "beside_random"
# Inputs that are explained where the plan sets no limit, and training inputs to compare with.
_INPUTS, _BACKGROUND = 100, 256
# Training inputs that a thief has, and test inputs on which its copy is compared with the model.
_POOL, _FRESH = 500, 1000
MAPS, INPUTS, TARGET, _VALUES = "maps", "inputs", "explained", "values of "
# Maps that are made again when a run is verified, and what may round between two machines.
_AGAIN, _ROUNDING = 8, 1e-3


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of a method, or of all of them side by side.

    Raises:
        NotApplicable: the method is not for this model, or nothing is read rightly.
        MethodFailed: it raised, or its maps are not what they should be.
    """
    if case.kind == "attributions":
        return _side_by_side(blank, bench)
    method = choose("attribution", case.text)
    shown = access_of(bench.setting.module)
    # Of a model that answers probabilities, their logarithms are explained.
    check_access(method.plugin, Access.LOGITS if shown == Access.PROBABILITIES else shown)
    with frozen(bench.setting.module):
        figures = bench.plan.figures or None
        found = examine_method(_question(case, bench), method, metrics=figures)
    told = found.explained
    # A median of fewer than six has no interval of 95 % that ends, and a record holds no infinity.
    measured = {n: m for n, m in found.measured.items() if math.isfinite(m.score.high)}
    stored = {MAPS: told.maps.cpu(), INPUTS: told.x.cpu(), TARGET: told.target.cpu()}
    stored |= {_VALUES + name: m.values.cpu() for name, m in measured.items()}
    content = save({name: values.contiguous() for name, values in stored.items()})
    write_whole(bench.home(case.name) / SAMPLES, content)
    notes = [f"{name}: {reason}" for name, reason in found.skipped.items()]
    notes += [f"{name}: {m.note}" for name, m in measured.items() if m.note]
    if few := [name for name in found.measured if name not in measured]:
        notes.append(f"{', '.join(few)}: {len(told.x)} inputs are too few for a median: take 6")
    return replace(
        blank,
        scores={name: m.score for name, m in measured.items()},
        cost=found.cost,
        status="done",
        notes=tuple(notes),
        samples=hashlib.sha256(content).hexdigest(),
    )


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check that the method still makes the stored maps, and that scores follow from values.

    Raises:
        BrokenClaim: it does not, or one does not.
    """
    if case.kind == "attributions":
        again = _side_by_side(replace(record, scores={}, notes=()), bench)
        mine = record.scores, record.notes, record.options
        if (again.scores, again.notes, again.options) != mine:
            raise BrokenClaim(f"{record.case}: does not follow from the methods' own files")
        return
    question, stored = _question(case, bench), read(bench.home(case.name) / SAMPLES)
    _check_scores(record, stored)
    maps = stored[MAPS]
    if not torch.equal(stored[INPUTS], question.x.cpu()):
        raise BrokenClaim(f"{record.case}: other inputs are explained than the plan says")
    method = choose("attribution", case.text)
    explain = explainer(method, question.model, question.background)
    with frozen(bench.setting.module):
        again_maps = explain(question.x[:_AGAIN], question.target[:_AGAIN]).cpu()
    size = maps[:_AGAIN].abs().amax().clamp_min(1e-12)
    if maps.shape != question.x.shape or bool(
        ((again_maps - maps[:_AGAIN]).abs() > _ROUNDING * size).any()
    ):
        raise BrokenClaim(f"{record.case}: the method makes other maps than those recorded")


def read(path: Path) -> dict[str, Tensor]:
    """Return maps and values of a case.

    Raises:
        BrokenClaim: the file is missing or damaged, or has no inputs or maps.
    """
    try:
        found: dict[str, Tensor] = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error
    if lacking := {MAPS, INPUTS, TARGET} - set(found):
        raise BrokenClaim(f"{path} holds no {' and no '.join(sorted(lacking))}")
    return found


def _check_scores(record: Record, stored: Mapping[str, Tensor]) -> None:
    """See that each score is the mean or median of its values; a leak's has other sources.

    Raises:
        BrokenClaim: one is neither.
    """
    for name, score in record.scores.items():
        values = stored.get(_VALUES + name)
        if values is None:
            raise BrokenClaim(f"{record.case}: no values are stored for its {name}")
        known = [mean_of(values, score.better).score.value]
        if bool((values.nan_to_num(0) >= 0).all()):
            known.append(median_of(values, score.better).score.value)
        if not any(abs(score.value - value) <= 1e-9 * (1 + abs(value)) for value in known):
            raise BrokenClaim(f"{record.case}: its {name} does not follow from its values")


def _question(case: Case, bench: Bench) -> Question:
    """Return what is asked of every method: the first rightly read inputs, why their class?

    Raises:
        NotApplicable: the model reads none of them rightly.
    """
    known: dict[str, Question] = bench.memory.setdefault("question", {})
    if not known:
        setting, device = bench.setting, bench.device
        rows = setting.right.nonzero().flatten()[: bench.plan.limit or _INPUTS]
        if not len(rows):
            raise NotApplicable("the model reads no input rightly, so there is nothing to explain")
        split, train = setting.split.at(rows), bench.dataset.train
        known["question"] = Question(
            cast(Classifier, setting.module),
            split.x.to(device),
            split.y.to(device),
            train.x[:_BACKGROUND].to(device),
            (split.low, split.high),
            shuffled=cache(lambda: learnt_shuffled(bench, case.seed)),
            pool=train.x[:_POOL].to(device),
            fresh=bench.dataset.test.x[:_FRESH].to(device),
            seed=case.seed,
        )
    return known["question"]


def _side_by_side(blank: Record, bench: Bench) -> Record:
    """Return how methods agree, which is best by each figure, and what cannot be told apart.

    Raises:
        NotApplicable: the random row was not finished.
    """
    done = [r for r in bench.group if r.kind == "attribution" and r.status == "done"]
    random = next((r for r in done if r.plugin == NOTHING), None)
    if random is None:
        raise NotApplicable("the random row was not finished, so there is nothing to compare with")
    model = blank.case.removesuffix(ASIDE)
    labels = {record.case: record.case.removeprefix(model) for record in done}
    stored = {record.case: read(bench.home(record.case) / SAMPLES) for record in done}
    notes: list[str] = []
    best: dict[str, Json] = {}
    for metric in [name for name in random.scores if name not in PRICES]:
        rows = [r for r in done if metric in r.scores]
        notes += _weak(metric, rows, random, stored)
        able = [r for r in rows if r.plugin not in KNOW_NOTHING]
        if able:
            first = _first(metric, able)
            gaps = _gaps(metric, [r for r in able if r is not first], first, stored)
            level = [case for case, gap in gaps.items() if gap.verdict == "not distinguishable"]
            best[metric] = {"case": first.case, "not distinguishable": level}
    maps = {labels[r.case]: _parts(r, stored[r.case]) for r in done}
    pairs = agreement(maps) if len(maps) > 1 else {}
    return replace(
        blank,
        options={"of": list(labels), "best": best},
        scores={f"agreement of {a} and {b}": m.score for (a, b), m in pairs.items()},
        status="done",
        notes=tuple(notes),
    )


def _first(metric: str, rows: list[Record]) -> Record:
    sign = 1 if rows[0].scores[metric].better == "higher" else -1
    return max(rows, key=lambda record: sign * record.scores[metric].value)


def _weak(
    metric: str, rows: list[Record], random: Record, stored: Mapping[str, Mapping[str, Tensor]]
) -> list[str]:
    """Return which methods a figure cannot tell from a random map, and which are worse."""
    asked = [row for row in rows if row.plugin not in REFERENCES]
    gaps = _gaps(metric, asked, random, stored)
    plugins = {row.case: row.case.removeprefix(random.case.removesuffix(NOTHING)) for row in asked}
    told = []
    for verdict, words in (("not distinguishable", "from"), ("worse", "than")):
        names = [plugins[case] for case, gap in gaps.items() if gap.verdict == verdict]
        if names:
            told.append(f"{metric}: {verdict} {words} a random map: {', '.join(names)}")
    return told


def _gaps(
    metric: str, rows: list[Record], other: Record, stored: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Difference]:
    """Return case → its lead over the other, paired, corrected for their number (Holm)."""

    def measured(record: Record) -> Measured:
        score: Score = record.scores[metric]
        return Measured(stored[record.case][_VALUES + metric], score)

    found: dict[str, Difference] = {}
    for record in rows:
        try:
            found[record.case] = compare(measured(record), measured(other))
        except NotApplicable:  # no input has a value of both
            continue
    return dict(zip(found, holm(list(found.values())), strict=True))


def _parts(record: Record, stored: Mapping[str, Tensor]) -> Tensor:
    """Return each entry's part, so that influences and attributions can be compared."""
    method = choose("attribution", record.plugin)
    influence = method.plugin.facts["influence"]
    told = Explained(stored[INPUTS], stored[TARGET], stored[MAPS], influence)
    return told.parts(torch.zeros_like(told.x))
