"""What a record of the exam of robustness claims, checked against its samples and the model."""

from pathlib import Path

import torch

from trustml.access import frozen, in_blocks
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.attacked import exam_of, on_average
from trustml.benchmarks.claims import close
from trustml.benchmarks.discipline import SAMPLES, Bench
from trustml.benchmarks.judge import Exam, reread
from trustml.benchmarks.plan import Case
from trustml.benchmarks.proved import proved
from trustml.benchmarks.readings import repeats, steadied
from trustml.benchmarks.samples import CERTIFIED, CLEAN_WRONG, FOOLED, NORMS, Samples
from trustml.benchmarks.scores import cost, proved_scores, scores, worst_case
from trustml.benchmarks.surrogates import check_lent
from trustml.contracts import Record
from trustml.errors import BrokenClaim


def check_claims(case: Case, record: Record, bench: Bench) -> None:
    """Check what a record says of its samples against the model and the data.

    Raises:
        BrokenClaim: something is not so.
    """
    samples, _ = on_disk.read(bench.home(case.name) / SAMPLES)
    exam = exam_of(bench.plan, bench.setting, case, bench.device)
    bench = steadied(bench, case.seed, exam.readings)
    split, where = bench.setting.split, bench.device
    if not torch.equal(samples.ids, split.ids):
        raise BrokenClaim(f"{record.case}: its samples are not those of the data")
    x, y, moved = split.x.to(where), split.y.to(where), samples.adversarial.to(where)
    _hold(record, samples, exam.contains(moved, x), "is outside its ball, box or grid")
    far = exam.distances(moved, x).cpu()
    if far.shape != samples.distances.shape:
        raise BrokenClaim(f"{record.case}: its samples have other distances than its threat")
    near = torch.isclose(far, samples.distances, rtol=1e-9)
    # What is no norm may be a linear program's answer, or an image's turned anew.
    near |= torch.isclose(far, samples.distances, rtol=1e-6) & (
        torch.arange(far.shape[1]) >= len(NORMS)
    )
    near = near.all(1)
    _hold(record, samples, near, "lies at another distance")
    wrong, proof = samples.verdict == CLEAN_WRONG, case.kind == "certificate"
    if exam.readings and not repeats(exam.setting.module, x, exam.seed):
        _check_chance(record, samples, exam, (moved, y))
        return
    if not proof:
        answers = reread(exam, moved, exam.goals(y), split.ids).cpu()
        so = (answers == (samples.verdict == FOOLED)) | wrong
        _hold(record, samples, so, "is read otherwise than recorded")
    clean = bench.setting.right if exam.readings else _right(exam, x, y).cpu()
    _hold(record, samples, clean != wrong, "is read otherwise when clean")
    found = proved_scores(samples) if proof else scores(samples, split.high - split.low, exam.norm)
    found |= {} if proof else on_average(exam, bench.home(case.name) / SAMPLES, bench)
    costs = cost(samples, record.cost.seconds, record.cost.peak_mib)
    if not (close(found, record.scores) and costs == record.cost):
        raise BrokenClaim(f"{record.case}: the scores do not follow from the samples")
    if proof:
        again, _, _ = proved(exam, bench.plan.certify)
        same = (again.verdict == CERTIFIED) | (samples.verdict != CERTIFIED)
        _hold(record, samples, same, "is not proved to be robust")
    elif case.kind == "union":
        _check_union(record, samples, bench)
    else:
        check_lent(record, bench)


def _check_chance(
    record: Record, samples: Samples, exam: Exam, pair: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Check a model whose draws no seed repeats: as many are misread as before, up to chance.

    Raises:
        BrokenClaim: by more than four standard deviations of as many coins it is another number.
    """
    moved, y = pair
    tried = samples.verdict != CLEAN_WRONG
    again = reread(exam, moved, exam.goals(y), samples.ids).cpu() & tried
    before, now = int((samples.verdict == FOOLED).sum()), int(again.sum())
    if abs(before - now) > 4 * (0.5 * max(int(tried.sum()), 1)) ** 0.5:
        raise BrokenClaim(
            f"{record.case}: {now} samples are misread, and {before} were: more than chance does"
        )


def _check_union(record: Record, samples: Samples, bench: Bench) -> None:
    """Check that all together are the worst case of the attacks that they are said to be of.

    Raises:
        BrokenClaim: they are not, or one of the attacks is missing.
    """
    named = record.options.get("of", [])
    there = [r.case for r in bench.group if r.kind == "attack" and r.status == "done"]
    if not named or any(name not in there for name in named):
        raise BrokenClaim(f"{record.case}: not every attack that it is of is there")
    homes: list[Path] = [bench.home(name) / SAMPLES for name in named]
    worst = worst_case([on_disk.read(home)[0] for home in homes], record.threat["norm"])
    same = (worst.digest == samples.digest).all(1)
    _hold(record, samples, same, "is not the worst case of the attacks")


def _right(exam: Exam, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with frozen(exam.setting.module), torch.no_grad():
        return in_blocks(exam.setting.module, x).argmax(1) == y


def _hold(record: Record, samples: Samples, holds: torch.Tensor, what: str) -> None:
    broken = (~holds.cpu()).nonzero().flatten()
    if len(broken):
        row = int(broken[0])
        made = f"{record.place.get('device')}, {record.place.get('name')}"
        raise BrokenClaim(
            f"{record.case}: sample {row} (id {int(samples.ids[row])}) {what} (recorded on {made})"
        )
