"""Cases of the exam of robustness: attack batch after batch, then all attacks together."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch

from trustml.access import frozen
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.batch_rows import batch_rows
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.judge import Exam, judged, shares
from trustml.benchmarks.place import forget_peak, peak_mib
from trustml.benchmarks.plan import Case, Plan
from trustml.benchmarks.proved import proved
from trustml.benchmarks.readings import clean_shares, mean_score, readings_of, steadied
from trustml.benchmarks.samples import (
    CERTIFIED,
    CLEAN_WRONG,
    FOOLED,
    ROBUST,
    Made,
    Samples,
    gathered,
    sealed,
)
from trustml.benchmarks.scores import cost, proved_scores, scores, worst_case
from trustml.benchmarks.setting import Setting
from trustml.benchmarks.signs import signs
from trustml.benchmarks.surrogates import Lent, lent
from trustml.contracts import Record, Score, Selective
from trustml.deployment import access_of, check_access
from trustml.errors import BrokenClaim, NotApplicable
from trustml.progress import progress
from trustml.recipes import choose

NOISE = "noise"
_READ = 512


def examine(case: Case, blank: Record, bench: Bench) -> Record:
    """Return the record of a certificate, of an attack, or of all attacks together.

    Raises:
        NotApplicable: nothing can be proved, the attack does not suit, or none was finished.
        MethodFailed: the attack raised, or broke its contract.
    """
    # What the data add to a threat, an older version's records may not say.
    group = [r for r in bench.group if case.threat.items() <= r.threat.items()]
    times = readings_of(bench.setting, bench.plan.eot, bench.device)
    bench = steadied(bench, case.seed, times)
    if case.kind == "certificate":
        return _certified(case, blank, bench)
    if case.kind == "union":
        return _union(case, blank, bench, group)
    return _attacked(case, blank, bench, group)


def exam_of(
    plan: Plan, setting: Setting, case: Case, device: torch.device, seen: Setting | None = None
) -> Exam:
    """Return all that a batch of the case needs to be attacked and judged.

    Args:
        seen: the model that attacks see, if it is not the examined one.
    """
    facts = case.threat
    text = case.text or plan.attacks[0]  # whichever: it is not run
    return Exam(
        setting, choose("attack", text), facts["norm"], facts["epsilon"], facts["target"],
        case.seed, plan.budget, device, precision=plan.precision, lent=seen,
        grid=plan.grid != "none", readings=readings_of(setting, plan.eot, device),
        eot=max(readings_of(seen or setting, plan.eot, device), 1),
    )  # fmt: skip


def _certified(case: Case, blank: Record, bench: Bench) -> Record:
    """Return which samples nothing can fool, and how that is known."""
    exam = exam_of(bench.plan, bench.setting, case, bench.device)
    if exam.readings:
        raise NotApplicable("nothing is proved of one answer of a model that answers at random")
    samples, method, seconds = proved(exam, bench.plan.certify)
    parts = (samples.at(slice(n, n + _READ)) for n in range(0, len(samples), _READ))
    digest, _ = gathered(parts, samples.ids, bench.home(case.name) / SAMPLES)
    return replace(
        blank,
        options={"method": method},
        scores=proved_scores(samples),
        cost=cost(samples, seconds, None),
        status="done",
        samples=digest,
    )


def _attacked(case: Case, blank: Record, bench: Bench, group: list[Record]) -> Record:
    """Attack batch after batch, each on disk before the next; return the record."""
    found, home = lent(bench, case.seed), bench.home(case.name)
    seen = found.setting if found else None
    exam = exam_of(bench.plan, bench.setting, case, bench.device, seen)
    untouched, batches = batches_of(exam, case, bench, group)
    seconds = 0.0
    notes = [*exam.setting.notes, *_of_surrogates(found), *_of_readings(exam, bench.plan.eot)]
    peaks: list[float] = []
    with progress(case.name, sum(len(rows) for rows, _ in batches)) as advance:
        for rows, file in batches:
            made = _batch(exam, rows, file)
            seconds += made.seconds
            notes += made.notes
            peaks += [] if made.peak_mib is None else [made.peak_mib]
            advance(len(rows))
    # From the disk, batch by batch: what is in memory does not grow with the number of samples.
    parts = chain(untouched, (on_disk.read(file)[0] for _, file in batches))
    digest, samples = gathered(parts, exam.setting.split.ids, home / SAMPLES)
    return replace(
        blank,
        scores=scores(samples, exam.setting.split.high - exam.setting.split.low, exam.norm)
        | on_average(exam, home / SAMPLES, bench),
        cost=cost(samples, seconds, max(peaks, default=None)),
        status="done",
        notes=tuple(dict.fromkeys([*notes, *_floor(samples, bench, group)])),
        samples=digest,
        surrogates=found.weights if found else {},
    )


def batches_of(
    exam: Exam, case: Case, bench: Bench, group: Sequence[Record]
) -> tuple[Iterator[Samples], list[tuple[torch.Tensor, Path]]]:
    """Return the samples that need no attack, and the rows of each batch with the file for it.

    Raises:
        NotApplicable: the attack needs more than the model that it sees shows.
    """
    check_access(exam.attack.plugin, access_of(exam.seen.module))
    kept, rows = _untouched(exam, _known(bench, group))
    # An empty tensor splits into one empty batch; there is nothing to attack in it.
    parts = rows.split(batch_rows(bench)) if len(rows) else ()
    home = bench.home(case.name) / "batches"
    return kept, [(part, home / f"{n:06d}.safetensors") for n, part in enumerate(parts)]


def _batch(exam: Exam, rows: torch.Tensor, file: Path) -> Made:
    """Return how a batch was made: before a stop, or now; then it is on disk."""
    if file.exists():
        with suppress(BrokenClaim):  # a damaged batch is done again
            known, made = on_disk.read(file)
            if torch.equal(known.ids, exam.setting.split.ids[rows]):
                return made
    return made_batch(exam, rows, file)


def made_batch(exam: Exam, rows: torch.Tensor, file: Path) -> Made:
    """Attack a batch, write its file and return how it was made.

    Raises:
        TrustError: the attack failed, or broke its contract.
    """
    forget_peak(exam.device)
    part, made = judged(exam, exam.setting.split.at(rows))
    made = replace(made, peak_mib=peak_mib(exam.device))
    on_disk.write(part, file, made)
    return made


def _union(case: Case, blank: Record, bench: Bench, group: list[Record]) -> Record:
    """Return the worst case per input over the group's finished attacks, and what is odd in it."""
    attacks = [record for record in group if record.kind == "attack"]
    done = [record for record in attacks if record.status == "done"]
    missing = [record.plugin for record in attacks if record.status != "done"]
    if all(record.plugin == NOISE for record in done) and missing:
        raise NotApplicable(f"none of {', '.join(missing)} was finished, so there is no worst case")
    files = [bench.home(record.case) / SAMPLES for record in done]
    together = zip(*(on_disk.pieces(file, _READ) for file in files), strict=True)
    worst = (worst_case(list(parts), str(blank.threat["norm"])) for parts in together)
    digest, samples = gathered(worst, bench.setting.split.ids, bench.home(case.name) / SAMPLES)
    notes = [f"without {', '.join(missing)}"] if missing else []
    notes += _sent_on(bench)
    exam = exam_of(bench.plan, bench.setting, case, bench.device)
    average = on_average(exam, bench.home(case.name) / SAMPLES, bench)
    notes += [f"{name}: {score.value:.1%}" for name, score in average.items()]
    # What an attack did not see cannot have misled it.
    if bench.plan.indicators and not bench.plan.surrogates:
        fooled = [
            (record.plugin, on_disk.verdicts(file) == FOOLED)
            for record, file in zip(done, files, strict=True)
        ]
        notes += signs(bench, case, fooled)
    return replace(
        blank,
        options={"of": [record.case for record in done]},
        scores=scores(samples, blank.threat["high"] - blank.threat["low"], blank.threat["norm"])
        | average,
        cost=cost(samples, sum(record.cost.seconds for record in done), None),
        status="done",
        notes=tuple(notes),
        samples=digest,
    )


def on_average(exam: Exam, path: Path, bench: Bench) -> dict[str, Score]:
    """Return what a random model gets right on average of a sample file; nothing of another one."""
    if exam.readings < 2:
        return {}
    samples, _ = on_disk.read(path)
    split, where = exam.setting.split, exam.device
    y = split.y.to(where)
    wrong = shares(replace(exam, target="none"), samples.adversarial.to(where), y, split.ids)
    clean = clean_shares(bench, exam.seed, exam.readings)
    return {
        f"clean accuracy, mean of {exam.readings} readings": mean_score(clean),
        f"robust accuracy, mean of {exam.readings} readings": mean_score(wrong),
    }


def _sent_on(bench: Bench) -> list[str]:
    """Say so if the model sends inputs to a person, which attacks on its answers do not count."""
    module = bench.setting.module
    if not isinstance(module, Selective):
        return []
    with frozen(module), torch.no_grad():
        kept = [module.accepts(x.to(bench.device)) for x in bench.setting.split.x.split(_READ)]
    sent = 1 - float(torch.cat(kept).double().mean())
    return [
        f"this model sends {sent:.1%} of these inputs to a person; attacks are judged by its "
        f"answers all the same: --route envelope_noise --defense … counts what gets past both"
    ]


def _known(bench: Bench, group: Sequence[Record]) -> torch.Tensor | None:
    """Return the verdicts of the group's certificate, if there is one."""
    for record in group:
        if record.kind == "certificate" and record.status == "done":
            return on_disk.verdicts(bench.home(record.case) / SAMPLES)
    return None


def _untouched(exam: Exam, known: torch.Tensor | None) -> tuple[Iterator[Samples], torch.Tensor]:
    """Return the samples that need no attack, as they are, and the rows of those that do."""
    setting = exam.setting
    verdict = torch.where(setting.right, ROBUST, CLEAN_WRONG)
    if known is not None:
        verdict = torch.where(known == CERTIFIED, CERTIFIED, verdict)

    def kept(rows: torch.Tensor) -> Samples:
        still = setting.split.at(rows)
        nothing, nowhere = torch.zeros(len(still)), exam.distances(still.x, still.x)
        return sealed(still.ids, verdict[rows], still.x, nowhere, (nothing, nothing))

    left = (verdict != ROBUST).nonzero().flatten().split(_READ)
    return (kept(rows) for rows in left), (verdict == ROBUST).nonzero().flatten()


def _of_surrogates(found: Lent | None) -> list[str]:
    """Say what the surrogates' own settings say, and whose it is."""
    return [f"surrogate: {note}" for note in found.setting.notes] if found else []


def _of_readings(exam: Exam, wanted: int) -> list[str]:
    """Say how a model that answers at random is attacked and read, or that another is not so."""
    if not exam.readings:
        if not wanted or exam.eot > 1:  # nobody asked, or a surrogate answers at random
            return []
        return [f"--eot {wanted} is of no use: this model answers the same every time"]
    if exam.readings == exam.eot == 1:
        return ["attacks follow one draw at a time, and each sample is read once: --eot asks more"]
    return [
        f"attacks average {exam.eot} losses at each point; a sample counts as read rightly, or as "
        f"robust, where all of {exam.readings} readings are right"
    ]


def _floor(samples: Samples, bench: Bench, group: list[Record]) -> list[str]:
    """Say so if an attack ended weaker than random noise of the same budget."""
    for record in group:
        if record.plugin == NOISE and record.status == "done":
            noise = on_disk.verdicts(bench.home(record.case) / SAMPLES)
            if int((samples.verdict == FOOLED).sum()) < int((noise == FOOLED).sum()):
                return ["weaker than random noise of the same budget"]
    return []
