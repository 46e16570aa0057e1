"""What about forty queries tell of a victim, and which methods could steal it."""

from dataclasses import asdict, dataclass
from math import prod

import torch
from torch import Tensor

from trustml.contracts import Access, Victim
from trustml.errors import BadInput, NotApplicable
from trustml.stealing._designs import asked, basis

SPREAD, REPEATS, STATIONS = 12, 3, 22
DECIMALS = 12
FLAT = 1e3  # a bend is this many times more than rounding explains


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What was seen, not what the terms say.

    Args:
        answers: the most that the answers could be: labels, top1, probabilities or logits.
        sums_to_one: whether every answer does.
        decimals: what the values are multiples of, as 10^-decimals; None if of no such.
        float32_grid: whether every value is a float32.
        deterministic: whether one query got one answer.
        takes_outside: whether inputs outside the stated bounds are answered.
        levels: whether inputs between 8-bit levels are refused, or answered as their neighbours.
        explains: whether input gradients are given.
        affine: whether logits, or log-ratios of probabilities, lie on one straight line.
        piecewise_affine: whether they do but for a few bends, as those of ReLU networks.
        bends: how many stations of the line lie at a bend; None where values do not tell.
        classes_seen: the labels that came up.
        queries: what it took.
        methods: names of stealers that could work, the cheapest first.
    """

    answers: str
    sums_to_one: bool
    decimals: int | None
    float32_grid: bool
    deterministic: bool
    takes_outside: bool
    levels: bool
    explains: bool
    affine: bool | None
    piecewise_affine: bool | None
    bends: int | None
    classes_seen: tuple[int, ...]
    queries: int
    methods: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return one line a finding, to print."""
        return [
            f"{name.replace('_', ' ')}: {_words(value)}" for name, value in asdict(self).items()
        ]


def fingerprint(victim: Victim, random: torch.Generator) -> Fingerprint:
    """Return what about forty queries tell; the terms are not read, but for shape and bounds.

    Raises:
        BudgetSpent: the budget ends before.
        MethodFailed: the victim misbehaves.
    """
    before = victim.queries
    spread = torch.rand(SPREAD, _size(victim), generator=random, dtype=torch.float64)
    low, high = victim.domain.low, victim.domain.high
    shown = _ask(victim, asked(low + (high - low) * spread, victim))
    first = asked(low + (high - low) * spread[:1], victim)
    # In calls of one shape: in another, rounding alone may differ.
    again = torch.cat([_ask(victim, first) for _ in range(REPEATS)])
    steady = bool((again == again[:1]).all())
    line, way = _line(victim, spread)
    levels = _has_levels(victim, spread[:1])
    outside = _takes_outside(victim)
    everything = torch.cat([shown, line])
    kind = _kind(everything)
    sums = bool(((everything.sum(1) - 1).abs() < 1e-5).all())
    decimals = _decimals(everything)
    bends = None
    if kind in ("logits", "probabilities") and steady and decimals is None:
        bends = _bends(line, way, kind, victim.dtype)
    affine = None if bends is None else bends == 0
    piecewise = None if bends is None else bends < (STATIONS - 2) / 2
    seen = tuple(everything.argmax(1).unique().tolist())
    explains = _explains(victim, first)
    found = _methods(kind, decimals, affine, piecewise)
    if explains:
        found = ("explanation_leak", *found)
    return Fingerprint(
        kind, sums, decimals, bool((everything == everything.float().double()).all()), steady,
        outside, levels, explains, affine, piecewise, bends, seen, victim.queries - before, found,
    )  # fmt: skip


def _ask(victim: Victim, points: Tensor) -> Tensor:
    return victim(points.to(victim.dtype).view(-1, *victim.domain.shape)).double()


def _size(victim: Victim) -> int:
    return prod(victim.domain.shape)


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


def _line(victim: Victim, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Return answers (N, K) along one line through the box, and the places (N,) on it."""
    low, high = victim.domain.low, victim.domain.high
    ends = low + (high - low) * spread[:2]
    way = torch.linspace(0, 1, STATIONS, dtype=torch.float64)
    return _ask(victim, asked(torch.lerp(ends[0], ends[1], way[:, None]), victim)), way


def _bends(line: Tensor, way: Tensor, kind: str, dtype: torch.dtype) -> int:
    """Return at how many inner stations second differences are more than rounding explains."""
    heights = line
    if kind == "probabilities":
        logs = line.clamp_min(1e-300).log()
        heights = logs - logs.mean(1, keepdim=True)
    second = heights[2:] - 2 * heights[1:-1] + heights[:-2]
    unit = torch.finfo(dtype).eps
    # float32 inputs are rounded too, which slopes carry on: the heights' own size bounds it.
    allowed = FLAT * unit * float(heights.abs().max() + 1)
    return int((second.abs().amax(1) > allowed).sum())


def _has_levels(victim: Victim, spread: Tensor) -> bool:
    """Return whether a step of half an 8-bit level is refused or makes no difference."""
    low, high = victim.domain.low, victim.domain.high
    step = (high - low) / 255
    place = low + step * (spread * 200).round()
    try:
        two = _ask(victim, torch.cat([place, place + 0.49 * step]))
    except BadInput:
        return True
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
    far = basis(victim)[:1] * 0 + high + (high - low)
    try:
        _ask(victim, far)
    except BadInput:
        return False
    return True


def _methods(
    kind: str, decimals: int | None, affine: bool | None, piecewise: bool | None
) -> tuple[str, ...]:
    """Return names of stealers, the cheapest first; learning from a pool works on anything."""
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
    if affine is not False and Access[kind.upper()] >= Access.LABELS:
        found.append("linear_labels")
    return (*found, "active", "knockoff")


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return "cannot be told" if value is None else str(value)
