"""The judge: runs an attack on a batch and decides, itself, what the attack achieved."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor

from trustml import beyond
from trustml.access import Blocks, Handed, block_rows, frozen, in_blocks
from trustml.benchmarks.place import sent
from trustml.benchmarks.plan import Precision
from trustml.benchmarks.readings import misread
from trustml.benchmarks.rounding import rounded
from trustml.benchmarks.samples import FOOLED, NORMS, ROBUST, Made, Samples, joined, sealed
from trustml.benchmarks.setting import Setting, check_logits, told
from trustml.benchmarks.surrogates import Unwon, goes_on
from trustml.contracts import Access, Classifier, Measure, Split, Threat
from trustml.errors import BudgetSpent, MethodFailed, TrustError
from trustml.geometry import distance
from trustml.grid import reachable, within
from trustml.precision import Reduced, fast_dtype
from trustml.randomness import keyed
from trustml.recipes import Choice
from trustml.replay import Replayed
from trustml.threats import Lp
from trustml.training import seeded

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True, slots=True, eq=False)
class Exam:
    """An attack on a model under a threat: all that a batch needs to be attacked and judged."""

    setting: Setting
    attack: Choice
    norm: Measure
    epsilon: float
    target: str
    seed: int
    budget: int
    device: torch.device
    block: int | None = None
    precision: Precision = "float32"
    lent: Setting | None = None
    grid: bool = False
    readings: int = 0  # of a model that answers at random; 0 is one that does not
    eot: int = 1
    searched: dict[torch.dtype, Classifier] = field(default_factory=dict)

    @property
    def seen(self) -> Setting:
        """The model that the attack sees: a surrogate, or the examined one."""
        return self.lent or self.setting

    @property
    def blocks(self) -> int | Blocks | None:
        """Rows that the attack's model is fed at once: what is known to give the same bits."""
        return self.block or self.seen.blocks

    @property
    def search_dtype(self) -> torch.dtype:
        """What the attack's model computes in; float32 where each query counts or is an answer.

        A second search for those not fooled by the first would be told which these are, so that
        there is just one on a surrogate.
        """
        if self.lent or self.budget or self.attack.plugin.facts["needs"] < Access.GRADIENTS:
            return torch.float32
        if self.precision == "auto":
            return fast_dtype(self.device)
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def threat(self) -> Threat:
        """What the attacker may do to these samples."""
        split = self.setting.split
        aimed = self.target != "none"
        return beyond.threat(self.norm, self.epsilon, split.low, split.high, aimed)

    @property
    def allowed(self) -> Threat:
        """The threat as the attack meets it."""
        threat = self.threat
        if self.grid and isinstance(threat, Lp):
            threat = reachable(threat)
        return Unwon(threat) if self.lent and goes_on(self.attack, self.norm) else threat

    def contains(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Return (B,) whether candidates are inside ball and box, and on the grid."""
        if self.grid:
            return within(candidate, x, self.threat)
        return self.threat.contains(candidate, x)

    def distances(self, candidate: Tensor, x: Tensor) -> Tensor:
        """Return how far candidates are from x in each norm, and in a measure that is none."""
        far = [distance(candidate, x, norm) for norm in NORMS]
        if isinstance(self.threat, beyond.Beyond):
            far.append(self.threat.distance(candidate, x))
        return torch.stack(far, dim=1)

    def goals(self, y: Tensor) -> Tensor:
        """Return the labels that the attack is given: the true ones, or the classes to be reached.

        A sample that is of the wanted class already is aimed at the next one.
        """
        if self.target == "none":
            return y
        following = (y + 1) % self.setting.split.classes
        if self.target == "next":
            return following
        return torch.where(y == int(self.target), following, int(self.target))


def judged(exam: Exam, batch: Split) -> tuple[Samples, Made]:
    """Return the verdicts on a batch of rightly read samples, and what they took.

    Where memory does not suffice, the batch is halved, and again.

    Raises:
        TrustError: the attack raised or broke its contract, or one sample is too much for memory.
    """
    try:
        samples, seconds = _judged_at_once(exam, batch)
        said = [note for model in exam.searched.values() for note in getattr(model, "notes", ())]
        return samples, Made(seconds, tuple(dict.fromkeys(said)))
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            raise _failure(exam, error) from error
    if len(batch) == 1:
        raise MethodFailed("out of memory with a single sample in the batch")
    exam.searched.clear()
    if exam.device.type == "cuda":
        torch.cuda.empty_cache()
    middle = (len(batch) + 1) // 2
    whole = exam.block or block_rows(exam.device)
    smaller = replace(exam, block=min(whole, middle))
    parts, made = zip(
        *(judged(smaller, batch.at(half)) for half in (slice(0, middle), slice(middle, None))),
        strict=True,
    )
    said = [f"out of memory: batch halved to {middle}", *made[0].notes, *made[1].notes]
    return joined(parts), Made(made[0].seconds + made[1].seconds, tuple(dict.fromkeys(said)))


def reread(exam: Exam, candidate: Tensor, goals: Tensor, ids: Tensor) -> Tensor:
    """Return (B,) whether the float32 model, asked again, answers what the attacker wants.

    One that answers at random is asked several times: once is enough for the attacker.

    Raises:
        MethodFailed: the model answers NaN, or another number of classes than the data have.
    """
    if exam.readings:
        return shares(exam, candidate, goals, ids).to(candidate.device) > 0
    with frozen(exam.setting.module), torch.no_grad():
        logits = in_blocks(exam.setting.module, candidate, exam.block)
    check_logits(logits, exam.setting.split.classes, "an attack's candidate")
    return exam.threat.reached(logits, goals)


def shares(exam: Exam, candidate: Tensor, goals: Tensor, ids: Tensor) -> Tensor:
    """Return in which share (B,) of its readings each candidate is answered as wanted."""
    split = exam.setting.split
    asked = replace(split, x=candidate, y=goals, ids=ids)
    return misread(exam.setting.module, asked, exam.threat.reached, (exam.seed, exam.readings))


def _judged_at_once(exam: Exam, batch: Split) -> tuple[Samples, float]:
    """Return the verdicts on a batch; what a reduced precision has not fooled, float32 tries."""
    batch, dtype = sent(batch, exam.device), exam.search_dtype
    samples, seconds = _searched(exam, batch, dtype)
    left = (samples.verdict != FOOLED).nonzero().flatten()
    if dtype == torch.float32 or not len(left):
        return samples, seconds
    again, more = _searched(exam, batch.at(left.to(exam.device)), torch.float32)
    forwards, backwards = samples.forwards.clone(), samples.backwards.clone()
    forwards[left] += again.forwards
    backwards[left] += again.backwards
    parts = [getattr(samples, name).clone() for name in ("verdict", "adversarial", "distances")]
    for part, name in zip(parts, ("verdict", "adversarial", "distances"), strict=True):
        part[left] = getattr(again, name)
    verdict, adversarial, distances = parts
    passes = (forwards, backwards)
    return sealed(samples.ids, verdict, adversarial, distances, passes), seconds + more


def _searched(exam: Exam, batch: Split, dtype: torch.dtype) -> tuple[Samples, float]:
    """Return what one search in the given precision achieved, read in float32."""
    goals = exam.goals(batch.y)
    model = Handed(
        _searchable(exam, dtype),
        exam.attack.plugin.facts["needs"], len(batch), budget=exam.budget or None,
        block=exam.blocks if dtype == torch.float32 else exam.block, readings=exam.eot,
    )  # fmt: skip
    candidate, seconds = _timed_attack(exam, model, batch, goals)
    candidate = exam.threat.project(_checked(candidate, batch.x), batch.x)
    if exam.grid:
        given = (batch.x, goals)
        candidate = rounded(model, candidate, given, exam.threat, mend=exam.lent is None)
    inside = exam.contains(candidate, batch.x)
    assert bool(inside.all()), "the projection left the ball, the box or the grid"
    fooled = reread(exam, candidate, goals, batch.ids)
    verdict = torch.where(fooled, FOOLED, ROBUST)
    distances = exam.distances(candidate, batch.x)
    passes = (model.forwards, model.backwards)
    return sealed(batch.ids, verdict, candidate, distances, passes), seconds


def _searchable(exam: Exam, dtype: torch.dtype) -> Classifier:
    """Return the model as attacks ask it: in that precision, and on a GPU with replayed passes."""
    if dtype not in exam.searched:
        module = cast(Classifier, exam.seen.module)
        model = module if dtype == torch.float32 else Reduced(module, dtype)
        # What is drawn anew at each call is not the same in a graph.
        replayed = exam.device.type == "cuda" and exam.eot == 1
        exam.searched[dtype] = Replayed(model) if replayed else model
    return exam.searched[dtype]


def _timed_attack(exam: Exam, model: Handed, batch: Split, goals: Tensor) -> tuple[Tensor, float]:
    """Return the attack's candidates and its seconds.

    Raises:
        MethodFailed: it raised anything that is not a TrustError, nor for want of memory.
    """
    _wait(exam.device)
    began = time.perf_counter()
    try:
        draws = seeded(exam.seed) if exam.eot > 1 else nullcontext()
        with frozen(exam.seen.module), draws:
            candidate = exam.attack.plugin.function(
                model, batch.x.clone(), goals.clone(), exam.allowed,
                random=keyed(exam.seed, batch.ids), **exam.attack.options,
            )  # fmt: skip
    except BudgetSpent as error:
        raise BudgetSpent(f"{error}{_thrifty(exam)}") from error
    except (TrustError, MemoryError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:  # a stranger's attack may raise anything
        if _is_memory(error):
            raise
        raise _failure(exam, error) from error
    _wait(exam.device)
    return candidate, time.perf_counter() - began


def _checked(candidate: object, x: Tensor) -> Tensor:
    """Return the candidates as float32.

    Raises:
        MethodFailed: they are not a finite tensor like x.
    """
    if not isinstance(candidate, Tensor):
        raise MethodFailed(f"it returned {type(candidate).__name__}, not a tensor")
    if candidate.shape != x.shape:
        raise MethodFailed(f"it returned shape {tuple(candidate.shape)}, not {tuple(x.shape)}")
    if not candidate.is_floating_point():
        raise MethodFailed(f"it returned {candidate.dtype}, not a floating type")
    # Finite in the precision that counts: a float64 beyond float32's range is infinite there.
    candidate = candidate.detach().to(x.device, x.dtype)
    finite = candidate.isfinite().flatten(1).all(1)
    if not finite.all():
        raise MethodFailed(f"it returned NaN or infinity for {int((~finite).sum())} samples")
    return candidate


def _thrifty(exam: Exam) -> str:
    """Return how the attack is told to ask less, if it can be."""
    name, options = exam.attack.plugin.name, {o.name for o in exam.attack.plugin.options}
    if "queries" in options:
        return f"; let it plan for fewer: --attack {name}:queries={exam.budget}"
    return f"; let it take fewer steps: --attack {name}:steps=…" if "steps" in options else ""


def _failure(exam: Exam, error: BaseException) -> MethodFailed:
    return MethodFailed(f"{exam.attack.plugin.name} raised {told(error)}")


def _is_memory(error: BaseException) -> bool:
    text = str(error).lower()
    said = any(words in text for words in _NO_MEMORY)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and said


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
