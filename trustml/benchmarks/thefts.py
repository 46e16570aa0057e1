"""Cases of the exam of stealing: a theft, the copy's answers kept, and the scores that follow."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trustml import metrics
from trustml.access import frozen, in_blocks
from trustml.benchmarks import theft as exam
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.plan import Case
from trustml.benchmarks.setting import blaming
from trustml.contracts import Access, Classifier, Cost, Record, Score, Terms, Theft
from trustml.errors import BrokenClaim, MethodFailed, NotApplicable
from trustml.files import write_whole
from trustml.randomness import keyed
from trustml.recipes import choose, read_recipe
from trustml.store import build
from trustml.threats import Lp
from trustml.training import seeded
from trustml.victim import Service

# Inputs that are attacked on the copy and shown to the victim, and the attack.
_TRANSFERRED, _ATTACK = 200, "pgd:steps=10"
_WANTED = (0.99, 0.999)


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of a theft.

    Raises:
        NotApplicable: the victim's terms show too little, or allow too few queries.
        MethodFailed: the thief raised, or its copy does not answer as a model does.
    """
    stealer = choose("stealer", case.text)
    terms = _terms(case)
    victim = Service(cast(Classifier, bench.setting.module), bench.setting.split.domain, terms)
    recipe = read_recipe(str(case.threat["copy"]))
    domain = bench.setting.split.domain

    def fresh() -> nn.Module:
        # Its weights come from torch's global generator, which the thief seeds.
        return build(recipe, domain, int(torch.randint(1 << 31, ())))

    began = time.perf_counter()
    try:
        with blaming(f"stealer {stealer.plugin.name}"), seeded(case.seed):
            theft = stealer.plugin.function(
                victim, bench.dataset.validation.x, fresh,
                random=torch.Generator().manual_seed(case.seed), **stealer.options,
            )  # fmt: skip
    except MethodFailed as error:
        raise MethodFailed(f"{error} (after {victim.queries} queries)") from error
    seconds = time.perf_counter() - began
    if not isinstance(theft, Theft):
        raise MethodFailed(f"it returned {type(theft).__name__}, not a Theft")
    if victim.queries > theft.queries:
        theft = replace(theft, queries=victim.queries)  # what was asked is what counts
    return _record(blank, bench, case, theft, (terms, seconds))


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check the agreements against the victim's own answers and the copy's stored ones.

    Raises:
        BrokenClaim: they do not follow.
    """
    stored = read(bench.home(case.name) / SAMPLES)
    again = _agreements(stored, bench, case.seed)
    for name, score in again.items():
        if record.scores.get(name) != score:
            raise BrokenClaim(f"{record.case}: {name} does not follow from the copy's answers")


def read(path: Path) -> dict[str, Tensor]:
    """Return the copy's answers, and its agreement against queries.

    Raises:
        BrokenClaim: the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


def _record(
    blank: Record, bench: Bench, case: Case, theft: Theft, how: tuple[Terms, float]
) -> Record:
    terms, seconds = how
    module, split = bench.setting.module, bench.setting.split
    found = exam.examine(module, theft, split, terms, case.seed)
    points = exam.curve(module, theft, split.x)
    stored = {
        "test": exam.answers(theft.copy, split.x),
        "uniform": exam.answers(theft.copy, _uniform(bench, case.seed)),
        "curve: queries": torch.tensor([queries for queries, _ in points]),
        "curve: agreement": torch.tensor([s.value for _, s in points], dtype=torch.float64),
    }
    content = save({name: part.contiguous() for name, part in stored.items()})
    write_whole(bench.home(case.name) / SAMPLES, content)
    scores = _agreements(stored, bench, case.seed)
    scores["transfer"] = _transfer(theft.copy, bench, case.seed)
    plain = {"worst gap": found.worst_gap, "queries over the least": found.ratio}
    if found.parameters is not None:
        plain["parameter error"] = found.parameters.relative
    for share in _WANTED:
        plain[f"queries to {100 * share:g} %"] = exam.queries_to(points, share)
    known = {name: Score(v, v, v, "higher") for name, v in plain.items() if v is not None}
    return replace(
        blank,
        scores=scores | known,
        cost=Cost(seconds, queries=float(theft.queries)),
        status="done",
        notes=(f"certified: {_words(theft.certificate)}",),
        samples=hashlib.sha256(content).hexdigest(),
    )


def _agreements(stored: Mapping[str, Tensor], bench: Bench, seed: int) -> dict[str, Score]:
    """Return how often the copy answers as the victim does, and how often it is right."""
    module, split = bench.setting.module, bench.setting.split
    found = {}
    for name, x in (("test", split.x), ("uniform", _uniform(bench, seed))):
        alike = stored[name].argmax(1) == exam.answers(module, x).argmax(1)
        found[f"agreement ({name})"] = metrics.proportion(int(alike.sum()), len(x), "lower")
    right = int((stored["test"].argmax(1) == split.y).sum())
    found["accuracy of the copy"] = metrics.proportion(right, len(split), "lower")
    return found


def _uniform(bench: Bench, seed: int) -> Tensor:
    split = bench.setting.split
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(exam.UNIFORM, *split.x.shape[1:], generator=generator)
    return split.low + (split.high - split.low) * spread.to(split.x)


def _transfer(copy: nn.Module, bench: Bench, seed: int) -> Score:
    """Return the share of inputs that, attacked on the copy, the victim misreads.

    Raises:
        NotApplicable: the victim reads nothing rightly.
    """
    setting, split = bench.setting, bench.setting.split
    rows = setting.right.nonzero().flatten()[:_TRANSFERRED]
    if not len(rows):
        raise NotApplicable("the victim reads no input rightly, so none can be attacked")
    some = split.at(rows)
    budget = bench.dataset.budgets.get("linf", 0.1 * (split.high - split.low))
    threat = Lp("linf", budget, split.low, split.high, False)
    attack = choose("attack", _ATTACK)
    stolen = cast(Any, _Single(copy))
    with frozen(copy):
        moved = attack.plugin.function(
            stolen, some.x.clone(), some.y, threat, random=keyed(seed, some.ids), **attack.options
        )
    moved = threat.project(moved.to(some.x), some.x)
    with frozen(setting.module), torch.no_grad():
        said = in_blocks(setting.module, moved.to(bench.device)).argmax(1).cpu()
    return metrics.proportion(int((said != some.y).sum()), len(some), "lower")


class _Single(nn.Module):
    """A copy of any precision, asked and answering in float32."""

    def __init__(self, copy: nn.Module) -> None:
        super().__init__()
        self.copy = copy

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.copy(x)
        return logits.to(x.dtype)


def _terms(case: Case) -> Terms:
    facts = dict(case.threat["victim"])
    return Terms(**{**facts, "answers": Access[facts["answers"].upper()]})


def _words(certificate: Mapping[str, Any]) -> str:
    words = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in certificate.items()
    ]
    return ", ".join(words) or "nothing"
