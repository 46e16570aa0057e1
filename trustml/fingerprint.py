"""What about forty queries tell of a victim, and which methods could steal it."""

from dataclasses import asdict, dataclass
from math import prod

import torch
from torch import Tensor

from trustml.asking import ask, asked
from trustml.contracts import Access, Json, Terms, Victim
from trustml.errors import BadInput, BudgetSpent, MethodFailed, NotApplicable, Refused

SPREAD, REPEATS, STATIONS, TRIPLES = 8, 3, 10, 6
DECIMALS = 12
# A bend is this many times more than one rounding explains; float64 has digits to spare.
FLAT = {torch.float32: 100.0, torch.float64: 1e3}
# A curve's second differences over a short triple are to be this many times what rounding explains.
CLEAR = 8.0
# Below this a probability has lost digits to underflow.
TINY = {torch.float32: 1e-36, torch.float64: 1e-290}
# Bisection to the borders of more unknowns than this takes more queries than learning does.
MOST_BISECTED = 1000


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What was seen, not what the terms say.

    Args:
        answers: the most that the answers could be: labels, top1, probabilities or logits.
        classes: how many values an answer has.
        sums_to_one: whether every answer does.
        decimals: what the values are multiples of, as 10^-decimals; None if of no such.
        float32_grid: whether every value is a float32; None for labels.
        deterministic: whether one query got one answer.
        takes_synthetic: whether uniform inputs in the bounds are answered; if not, all that follows
            was seen at inputs of the pool.
        takes_outside: whether inputs outside the stated bounds are answered.
        levels: whether inputs between 8-bit levels are refused, or answered as their neighbours.
        explains: whether input gradients are given.
        affine: whether logits, or log-ratios of probabilities, lie on one straight line.
        piecewise_affine: whether they do but for a few kinks, as those of ReLU networks.
        kinks: at least how many kinks the line has; None where values do not tell, or curve.
        classes_seen: the labels that came up.
        queries: what it took.
        methods: names of stealers that could work, the cheapest first.
    """

    answers: str
    classes: int
    sums_to_one: bool
    decimals: int | None
    float32_grid: bool | None
    deterministic: bool
    takes_synthetic: bool
    takes_outside: bool
    levels: bool
    explains: bool
    affine: bool | None
    piecewise_affine: bool | None
    kinks: int | None
    classes_seen: tuple[int, ...]
    queries: int
    methods: tuple[str, ...]

    def facts(self) -> dict[str, Json]:
        """Return the findings as plain values that JSON holds."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    def lines(self) -> list[str]:
        """Return one line a finding, to print."""
        return [
            f"{name.replace('_', ' ')}: {_words(value)}" for name, value in asdict(self).items()
        ]

    def against(self, terms: Terms) -> list[str]:
        """Return one line for each of the terms that the answers belie."""
        found = []
        if self.decimals is not None and self.decimals != terms.decimals and not self._labels:
            said = "none" if terms.decimals is None else str(terms.decimals)
            found.append(f"answers have {self.decimals} decimals; rounding to {said} was stated")
        if Access[self.answers.upper()] < terms.answers:
            stated = terms.answers.name.lower()
            found.append(f"answers tell no more than {self.answers}; {stated} were stated")
        if not self.deterministic:
            found.append("one query got several answers; nothing said that they are random")
        if not self.takes_synthetic:
            found.append("uniform inputs are refused; the stated bounds hold them")
        return found

    @property
    def _labels(self) -> bool:
        return self.answers == "labels"


def fingerprint(victim: Victim, random: torch.Generator, pool: Tensor | None = None) -> Fingerprint:
    """Return what about forty queries tell; the terms are not read, but for shape and bounds.

    Args:
        victim: anything that answers.
        random: where the inputs come from.
        pool: ordinary inputs (N, *S), asked about where uniform ones are refused.

    Raises:
        BudgetSpent: the budget ends before.
        MethodFailed: the victim misbehaves.
        Refused: uniform inputs are refused, and so are those of the pool, or there is none.
    """
    before = victim.queries
    points, shown, synthetic = _first(victim, random, pool)
    # In calls of one shape: in another, rounding alone may differ.
    again = torch.cat([ask(victim, points[:1]) for _ in range(REPEATS)])
    steady = bool((again == again[:1]).all())
    line = _line(victim, points) if synthetic else shown[:0]
    levels = _has_levels(victim, points[:1])
    outside = _takes_outside(victim)
    everything = torch.cat([shown, line])
    kind = _kind(everything)
    decimals = _decimals(everything)
    affine = piecewise = kinks = None
    if kind in ("logits", "probabilities") and steady and decimals is None and synthetic:
        affine, piecewise, kinks = _shape(victim, points, line, kind)
    explains = _explains(victim, points[:1])
    found = _methods(kind, (decimals, affine, piecewise, steady and synthetic), victim)
    return Fingerprint(
        answers=kind,
        classes=everything.shape[1],
        sums_to_one=bool(((everything.sum(1) - 1).abs() < 1e-5).all()),
        decimals=decimals,
        float32_grid=None if kind == "labels" else bool((everything == everything.float()).all()),
        deterministic=steady,
        takes_synthetic=synthetic,
        takes_outside=outside,
        levels=levels,
        explains=explains,
        affine=affine,
        piecewise_affine=piecewise,
        kinks=kinks,
        classes_seen=tuple(everything.argmax(1).unique().tolist()),
        queries=victim.queries - before,
        methods=("explanation_leak", *found) if explains else found,
    )


def _first(
    victim: Victim, random: torch.Generator, pool: Tensor | None
) -> tuple[Tensor, Tensor, bool]:
    """Return points (N, D), answers (N, K), and whether they are uniform ones."""
    low, high = victim.domain.low, victim.domain.high
    size = prod(victim.domain.shape)
    spread = torch.rand(SPREAD, size, generator=random, dtype=torch.float64)
    points = asked(low + (high - low) * spread, victim)
    try:
        return points, ask(victim, points), True
    except Refused:
        if pool is None or not len(pool):
            raise
    points = asked(pool[:SPREAD].flatten(1).double(), victim)
    return points, ask(victim, points), False


def _kind(shown: Tensor) -> str:
    single = ((shown != 0).sum(1) == 1).all()
    if bool(single):
        return "labels" if bool((shown.amax(1) == 1).all()) else "top1"
    one = ((shown.sum(1) - 1).abs() < 0.51 * shown.shape[1] * 0.1).all()
    return "probabilities" if bool((shown >= 0).all() and (shown <= 1).all() and one) else "logits"


def _decimals(shown: Tensor) -> int | None:
    for decimals in range(1, DECIMALS):
        scaled = shown * 10.0**decimals
        # float32 holds a decimal fraction to within half a unit of its last place.
        near = (scaled - scaled.round()).abs() <= 1e-7 * scaled.abs() + 1e-12
        if bool(near.all()):
            return decimals if float(shown.abs().max()) * 10.0**decimals < 4e6 else None
    return None


def _line(victim: Victim, points: Tensor) -> Tensor:
    """Return answers (N, K) along one line through the box."""
    way = torch.linspace(0, 1, STATIONS, dtype=torch.float64)
    return ask(victim, asked(torch.lerp(points[0], points[1], way[:, None]), victim))


def _shape(
    victim: Victim, points: Tensor, line: Tensor, kind: str
) -> tuple[bool | None, bool | None, int | None]:
    """Return whether the line is straight, or straight in pieces, and its least number of kinks."""
    whole = _bends(line.unfold(0, 3, 1).transpose(1, 2), kind, victim.dtype)
    if whole is None:
        return None, None, None
    bent = whole > 1
    if not bool(bent.any()):
        return True, True, 0
    # So short that a curve as bent as the line is would still be seen to be one: then what looks
    # straight is straight, and only a kink in the triple itself looks bent.
    share = (CLEAR / float(whole[bent].median())) ** 0.5
    step = min(share, 0.5) / (STATIONS - 1)
    middles = torch.linspace(0.1, 0.9, TRIPLES, dtype=torch.float64)
    ways = middles[:, None] + step * torch.tensor([-1.0, 0.0, 1.0]).double()
    beside = torch.lerp(points[0], points[1], ways.flatten()[:, None])
    triples = ask(victim, asked(beside, victim)).view(TRIPLES, 3, -1)
    short = _bends(triples, kind, victim.dtype)
    if short is None:
        return False, None, None
    pieces = int((short <= 1).sum()) >= TRIPLES / 2
    # A kink bends the second differences of both stations beside it, at most.
    return False, pieces, (int(bent.sum()) + 1) // 2 if pieces else None


def _bends(triples: Tensor, kind: str, dtype: torch.dtype) -> Tensor | None:
    """Return (N,) second differences of triples (N, 3, K), in what rounding explains; None if lost.

    Logits are straight where the model is; of probabilities, the log-ratios of those above 0.
    """
    heights = triples
    if kind == "probabilities":
        there = (triples >= TINY[dtype]).flatten(0, 1).all(0)
        if int(there.sum()) < 2:
            return None
        logs = triples[:, :, there].log()
        heights = logs - logs.mean(2, keepdim=True)
    second = heights[:, 2] - 2 * heights[:, 1] + heights[:, 0]
    # float32 inputs are rounded too, which slopes carry on: the heights' own size bounds it.
    allowed = FLAT[dtype] * torch.finfo(dtype).eps * float(heights.abs().max() + 1)
    return second.abs().amax(1) / allowed


def _has_levels(victim: Victim, place: Tensor) -> bool:
    """Return whether a step of half an 8-bit level is refused or makes no difference."""
    low, high = victim.domain.low, victim.domain.high
    step = (high - low) / 255
    place = low + step * (((place - low) / (high - low)).clamp(0, 1) * 200).round()
    try:
        # As they are: `asked` would put them on the levels that are asked for here.
        two = ask(victim, torch.cat([place, place + 0.49 * step]))
    except BadInput:
        return True
    except Refused:
        return False
    values = two.shape[1] > 1 and not bool(((two == 0) | (two == 1)).all())
    return bool(values and (two[0] == two[1]).all() and _decimals(two) is None)


def _explains(victim: Victim, first: Tensor) -> bool:
    try:
        victim.explain(first.to(victim.dtype).view(-1, *victim.domain.shape))
    except NotApplicable:
        return False
    return True


def _takes_outside(victim: Victim) -> bool:
    low, high = victim.domain.low, victim.domain.high
    far = torch.full((1, prod(victim.domain.shape)), high + (high - low), dtype=torch.float64)
    try:
        ask(victim, far)
    except BudgetSpent:
        raise
    except (BadInput, MethodFailed):
        return False
    return True


def _methods(
    kind: str, seen: tuple[int | None, bool | None, bool | None, bool], victim: Victim
) -> tuple[str, ...]:
    """Return names of stealers, the cheapest first; learning from a pool works on anything."""
    decimals, affine, piecewise, steady = seen
    learnt = ("active", "knockoff")
    if not steady:
        return ("linear_rounded", *learnt) if kind == "probabilities" else learnt
    found: list[str] = []
    if kind in ("logits", "probabilities"):
        if decimals is not None:
            found.append("linear_rounded")
        elif affine:
            found.append("linear_exact")
        elif piecewise:
            found.append("relu_exact")
    elif kind == "top1" and decimals is None:
        found.append("linear_top1")
    few = (victim.domain.classes - 1) * (prod(victim.domain.shape) + 1) <= MOST_BISECTED
    bisected = ("linear_labels",) if affine is not False else ()
    return (*found, *bisected, *learnt) if few else (*found, *learnt, *bisected)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return "cannot be told" if value is None else str(value)
