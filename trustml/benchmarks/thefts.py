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
from trustml.benchmarks.services import alarm_of, here, service, terms_of
from trustml.benchmarks.setting import blaming
from trustml.contracts import Access, Cost, Record, Score, Status, Theft
from trustml.deployment import check_access
from trustml.errors import BrokenClaim, MethodFailed, NotApplicable, Refused, TrustError
from trustml.files import write_whole
from trustml.randomness import keyed
from trustml.recipes import choose, read_recipe
from trustml.store import build
from trustml.threats import Lp
from trustml.training import seeded

# Inputs that are attacked on the copy and shown to the victim, and the attack.
_TRANSFERRED, _ATTACK = 200, "pgd:steps=10"
_WANTED = (0.99, 0.999)
# So many queries of a thief that failed are kept with their answers.
_KEPT = 10_000
EQUAL = "× queries at equal agreement"

Curve = list[tuple[int, Score]]


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of a theft; of one that failed, with what it took and was told.

    Raises:
        UsageError: an option of the thief is not allowed.
    """
    stealer = choose("stealer", case.text)
    victim, gates = service(case, bench)
    told = _Told()
    victim.listeners = (told,)
    recipe = read_recipe(str(case.threat["copy"]))
    domain = bench.setting.split.domain

    def fresh() -> nn.Module:
        # Its weights come from torch's global generator, which the thief seeds.
        return build(recipe, domain, int(torch.randint(1 << 31, ())))

    began = time.perf_counter()
    try:
        if stealer.plugin.facts["needs"] <= Access.LOGITS:  # explanations are asked for apart
            check_access(stealer.plugin, victim.terms.answers)
        with blaming(f"stealer {stealer.plugin.name}"), seeded(case.seed):
            theft = stealer.plugin.function(
                victim, bench.dataset.validation.x, fresh,
                random=torch.Generator().manual_seed(case.seed), **stealer.options,
            )  # fmt: skip
        if not isinstance(theft, Theft):
            raise MethodFailed(f"it returned {type(theft).__name__}, not a Theft")
    except (MethodFailed, NotApplicable) as error:
        cost = Cost(time.perf_counter() - began, queries=float(victim.queries))
        return _failed(replace(blank, cost=cost), bench, error, told, alarm_of(gates))
    seconds = time.perf_counter() - began
    if victim.queries > theft.queries:
        theft = replace(theft, queries=victim.queries)  # what was asked is what counts
    cost = Cost(seconds, queries=float(theft.queries))
    blank, alarm = replace(blank, cost=cost), alarm_of(gates)
    try:
        with blaming(f"judging the copy of {bench.setting.recipe.name}"):
            return _record(blank, bench, case, theft, alarm)
    except MethodFailed as error:
        return _failed(blank, bench, error, told, alarm)


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check the agreements against the victim's own answers and the copy's stored ones.

    Raises:
        BrokenClaim: they do not follow.
    """
    stored = read(bench.home(case.name) / SAMPLES)
    again = _agreements(stored, bench, case.seed) | _queries(stored, bench, case)
    claimed = {name for name in record.scores if name.startswith(("agreement", "queries to"))}
    claimed |= record.scores.keys() & {EQUAL}
    for name in (*again, *sorted(claimed)):
        if record.scores.get(name) != again.get(name):
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


class _Told:
    """What a thief asks and is told, the first queries of it."""

    def __init__(self) -> None:
        self.asked: list[Tensor] = []
        self.told: list[Tensor] = []
        self.count = 0

    def __call__(self, x: Tensor, answers: Tensor, /) -> None:
        room = max(0, _KEPT - self.count)
        self.count += len(x)
        if room:
            self.asked.append(x[:room].clone())
            self.told.append(answers[:room].clone())


def _failed(
    blank: Record, bench: Bench, error: TrustError, told: _Told, alarm: int | None
) -> Record:
    """Return the record of a theft that stopped: why, after what, and the answers it had."""
    turned_away = isinstance(error, Refused) and blank.threat["countermeasure"] != "none"
    known = isinstance(error, NotApplicable) or turned_away
    status: Status = "skipped" if known else "failed"
    reason = " ".join(str(error).split())
    if status == "failed":
        reason = f"{reason}; {told.count or 'no'} queries were answered before it stopped"
    found = replace(blank, status=status, reason=reason)
    if not told.count:
        return found
    content = save({"asked": torch.cat(told.asked), "told": torch.cat(told.told)})
    write_whole(bench.home(blank.case) / SAMPLES, content)
    seen = torch.cat(told.told).argmax(1).unique().tolist()
    note = f"before it stopped {told.count} queries were answered; classes seen: {seen}"
    scores = {} if alarm is None else {"alarm": _plain(alarm)}
    digest = hashlib.sha256(content).hexdigest()
    return replace(found, scores=scores, notes=(note,), samples=digest)


def _record(blank: Record, bench: Bench, case: Case, theft: Theft, alarm: int | None) -> Record:
    split, terms, told = bench.setting.split, terms_of(case), _victims(bench, case.seed)
    found = exam.examine(here(bench), theft, split, terms, case.seed, told)
    inputs = exam.inputs_of(split, case.seed)
    queries, labels = exam.stages(theft, torch.cat(list(inputs.values())))
    stored = {
        **{name: exam.answers(theft.copy, x) for name, x in inputs.items()},
        "curve: queries": queries,
        "curve: labels": labels.to(torch.int32),
    }
    agreed = [s.value for _, s in _curves(stored, bench, case.seed)["test"]]
    stored["curve: agreement"] = torch.tensor(agreed, dtype=torch.float64)
    content = save({name: part.contiguous() for name, part in stored.items()})
    write_whole(bench.home(case.name) / SAMPLES, content)
    scores = _agreements(stored, bench, case.seed) | _queries(stored, bench, case)
    passed_on = _transfer(theft.copy, bench, case.seed)
    notes = [f"certified: {_words(theft.certificate)}"]
    if isinstance(passed_on, Score):
        scores["transfer"] = passed_on
    else:
        notes.append(f"no transfer: {passed_on}")
    plain = {"worst gap": found.worst_gap, "queries over the least": found.ratio, "alarm": alarm}
    if found.parameters is not None:
        plain["parameter error"] = found.parameters.relative
    known = {name: _plain(value) for name, value in plain.items() if value is not None}
    return replace(
        blank,
        scores=scores | known,
        status="done",
        notes=tuple(notes),
        samples=hashlib.sha256(content).hexdigest(),
    )


def _plain(value: float) -> Score:
    return Score(float(value), float(value), float(value), "higher")


def curves(stored: Mapping[str, Tensor], labels: Tensor, tests: int) -> dict[str, Curve]:
    """Return agreement against queries on the first `tests` inputs, the others, and on all."""
    queries, said = stored["curve: queries"], stored["curve: labels"]
    return {
        "test": exam.curve(queries, said[:, :tests], labels[:tests]),
        "uniform": exam.curve(queries, said[:, tests:], labels[tests:]),
        "all": exam.curve(queries, said, labels),
    }


def _queries(stored: Mapping[str, Tensor], bench: Bench, case: Case) -> dict[str, Score]:
    """Return the queries to so much agreement, and how many times those without countermeasure."""
    mine = _curves(stored, bench, case.seed)
    wanted = {f"queries to {100 * s:g} %": exam.queries_to(mine["test"], s) for s in _WANTED}
    wanted["queries to exact"] = exam.queries_to(mine["all"], 1.0)
    found = {name: _plain(value) for name, value in wanted.items() if value is not None}
    bare = _bare(case, bench)
    if bare is not None:
        theirs = _curves(read(bench.home(bare.case) / SAMPLES), bench, case.seed)
        level = min(curve[-1][1].value for curve in (mine["test"], theirs["test"]))
        here_, there = (exam.queries_to(curve["test"], level) for curve in (mine, theirs))
        if here_ and there:
            found[EQUAL] = _plain(here_ / there)
    return found


def _curves(stored: Mapping[str, Tensor], bench: Bench, seed: int) -> dict[str, Curve]:
    said = torch.cat(list(_victims(bench, seed).values())).argmax(1)
    return curves(stored, said, len(bench.setting.split))


def _victims(bench: Bench, seed: int) -> dict[str, Tensor]:
    """Return the victim's answers to what copies are judged on; it is asked once for all thieves.

    A server may be slow, or count what it is asked.
    """
    key = f"the victim's answers, {seed}"
    if key not in bench.memory:
        module, inputs = here(bench), exam.inputs_of(bench.setting.split, seed)
        bench.memory[key] = {name: exam.answers(module, x) for name, x in inputs.items()}
    return cast(dict[str, Tensor], bench.memory[key])


def _bare(case: Case, bench: Bench) -> Record | None:
    """Return the record of the same thief where there is no countermeasure."""
    if case.threat["countermeasure"] == "none":
        return None
    same = (case.plugin, case.options, "none", "done")
    for record in bench.group:
        shield = record.threat.get("countermeasure")
        if (record.plugin, record.options, shield, record.status) == same:
            return record
    return None


def _agreements(stored: Mapping[str, Tensor], bench: Bench, seed: int) -> dict[str, Score]:
    """Return how often the copy answers as the victim does, and how often it is right."""
    split, found = bench.setting.split, {}
    for name, said in _victims(bench, seed).items():
        alike = stored[name].argmax(1) == said.argmax(1)
        found[f"agreement ({name})"] = metrics.proportion(int(alike.sum()), len(said), "lower")
    right = int((stored["test"].argmax(1) == split.y).sum())
    found["accuracy of the copy"] = metrics.proportion(right, len(split), "lower")
    return found


def _transfer(copy: nn.Module, bench: Bench, seed: int) -> Score | str:
    """Return the share of inputs, moved until the copy misreads them, that fool the victim too.

    Where there are none, say why: nothing can be passed on then.
    """
    setting, split = bench.setting, bench.setting.split
    rows = setting.right.nonzero().flatten()[:_TRANSFERRED]
    if not len(rows):
        return "the victim reads no input rightly, so that none can be attacked"
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
    victim = here(bench)
    with frozen(victim), frozen(copy), torch.no_grad():
        fooled = in_blocks(stolen, moved).argmax(1) != some.y
        both = fooled & (in_blocks(victim, moved).argmax(1) != some.y)
    if not bool(fooled.any()):
        return f"{_ATTACK} makes the copy misread none of {len(some)} inputs"
    return metrics.proportion(int(both.sum()), int(fooled.sum()), "lower")


class _Single(nn.Module):
    """A copy of any precision, asked and answering in float32."""

    def __init__(self, copy: nn.Module) -> None:
        super().__init__()
        self.copy = copy

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.copy(x)
        return logits.to(x.dtype)


def _words(certificate: Mapping[str, Any]) -> str:
    words = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in certificate.items()
    ]
    return ", ".join(words) or "nothing"
