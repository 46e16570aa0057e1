"""Softmax regression from the answered class and its probability alone."""

from collections.abc import Callable
from math import ceil, prod

import torch
from torch import Tensor, nn

from trustml.asking import ask, asked
from trustml.contracts import Access, Json, Symmetry, Theft, Victim
from trustml.errors import BadOption, NotApplicable, Refused
from trustml.registry import stealer
from trustml.stealing._borders import shift_free
from trustml.stealing._copies import AffineCopy
from trustml.stealing._designs import basis
from trustml.stealing._segments import a_optimal
from trustml.stealing._top_fit import STUCK, Tops, begun, fitted, polished, slopes
from trustml.victim import least_access, least_budget

PROBES = 12
FIRST, BATCH = 0.4, 60
DRAWN, AIMED = 300, 1200
# Penalties of the convex fits that searches start from.
L2 = (1e-4, 1e-5, 1e-3)
# Later ones begin so far from the best, in spreads of its weights.
SHAKE = 0.5


@stealer(
    source="Tramèr et al. 2016, section 4.1 (equation solving), for top-1 answers: trustml",
    needs=Access.TOP1,
)
def linear_top1(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    ratio: float = 1.2,
    steps: int = 200,
    confidence: float = 0.7,
    starts: int = 8,
) -> Theft:
    """Fit the logs of top-1 probabilities, at inputs chosen to tell most of what is least known.

    Args:
        ratio: queries for each of the (K-1)(D+1) unknowns; beyond 1 they certify the fit.
        steps: of least squares at the end.
        confidence: mean top probability above which first inputs are drawn nearer to the origin,
            for where the softmax saturates, answers tell little.
        starts: from how many places at most the last search begins, until one explains all answers.

    Raises:
        NotApplicable: labels alone, rounded probabilities, or too small a budget.
        BadOption: an option out of its range.
    """
    if ratio < 1 or steps < 1 or starts < 1 or not 0 < confidence < 1:
        raise BadOption(
            f"ratio={ratio}, steps={steps}, starts={starts}, confidence={confidence}: a ratio, "
            f"steps and starts of 1 or more, a confidence between 0 and 1"
        )
    _check_terms(victim)
    unknown = (victim.domain.classes - 1) * (prod(victim.domain.shape) + 1)
    count = ceil(ratio * unknown - 1e-9)
    least_budget(victim, unknown, "linear_top1")
    before, count = victim.queries, int(min(count, victim.left))
    frame = shift_free(victim.domain.classes)
    known, inner, earlier, stopped = _gathered(victim, pool, frame, (count, confidence), random)
    # A miss of rounding's size where there are more equations than unknowns is no accident.
    allowed = 64 * torch.finfo(victim.dtype).eps * (1 + float(known.logs.abs().max()))
    inner, miss, gain, tried = _best(known, inner, frame, (steps, starts, allowed), random)
    solved = miss <= allowed and len(known.logs) > unknown
    proof: dict[str, Json] = {
        "equations": len(known.logs),
        "unknowns": unknown,
        "largest miss of a log probability": miss,
        "miss that rounding explains": allowed,
        "error of parameters per error of answers": gain,
        "starts tried": tried,
        "solved": solved,
    }
    if stopped:
        proof["stopped"] = stopped
    copy = AffineCopy(victim.domain, frame @ inner)
    up_to: Symmetry = "shift" if solved else "behaviour"
    return Theft(copy, proof, victim.queries - before, up_to, tuple(earlier))


def _gathered(
    victim: Victim, pool: Tensor, frame: Tensor, wanted: tuple[int, float], random: torch.Generator
) -> tuple[Tops, Tensor, list[Theft], str]:
    """Return `count` answers, the unknowns by then, earlier copies, and why there are no more."""
    (count, confidence), before = wanted, victim.queries
    unknown = (victim.domain.classes - 1) * (prod(victim.domain.shape) + 1)
    known, reach = _near_enough(victim, pool, count, confidence, random)
    first = max(0, min(ceil(FIRST * unknown), count) - len(known.logs))
    known = known.joined(_answers(victim, _drawn(victim, pool, reach, first, random)))
    inner = begun(known, frame, L2[0])
    earlier: list[Theft] = []
    while len(known.logs) < count:
        inner = fitted(known, inner, frame, 12)
        copy = AffineCopy(victim.domain, frame @ inner)
        earlier.append(Theft(copy, {}, victim.queries - before))
        points = _informative(
            victim, known, inner, (frame, pool, reach), min(BATCH, count - len(known.logs)), random
        )
        try:
            known = known.joined(_answers(victim, points))
        except Refused as error:
            return known, inner, earlier, str(error)
    return known, inner, earlier, ""


def _best(
    known: Tops,
    inner: Tensor,
    frame: Tensor,
    limits: tuple[int, int, float],
    random: torch.Generator,
) -> tuple[Tensor, float, float, int]:
    """Return the unknowns of the best search, its miss and gain, and how many searches it took."""
    steps, starts, allowed = limits
    best: tuple[Tensor, float, float] | None = None
    for number in range(starts):
        begin = _start(known, (inner, best and best[0]), frame, number, random)
        found = polished(known, fitted(known, begin, frame, steps, STUCK), frame)
        if best is None or found[1] < best[1]:
            best = found
        if best[1] <= allowed:
            break
    assert best is not None
    return *best, number + 1


def _start(
    known: Tops, found: tuple[Tensor, Tensor | None], frame: Tensor, number: int,
    random: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return where search `number` begins: on the way so far, at zero, in between, near the best.

    Classes change places where a search has mixed them up, so the best one is shaken well.
    """
    inner, best = found
    if number == 0 or best is None:
        return inner
    if number == 1:
        return torch.zeros_like(inner)
    if number - 2 < len(L2):
        return begun(known, frame, L2[number - 2])
    noise = torch.randn(inner.shape, generator=random, dtype=torch.float64)
    return best + SHAKE * best.std() * noise


def _check_terms(victim: Victim) -> None:
    least_access(victim, Access.TOP1, "linear_top1")
    if victim.terms.decimals is not None:
        raise NotApplicable(
            f"linear_top1 cannot solve probabilities of {victim.terms.decimals} decimals: "
            f"linear_labels needs the labels only"
        )


def _answers(victim: Victim, points: Tensor) -> Tops:
    points = asked(points, victim)
    shown = ask(victim.at(Access.TOP1), points)
    value, label = shown.max(1)
    extended = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1)
    return Tops(extended, label, value.log())


def _near_enough(
    victim: Victim, pool: Tensor, count: int, confidence: float, random: torch.Generator
) -> tuple[Tops, float]:
    """Return first answers, and the part of the box's reach at which the victim is unsure."""
    reach, known = 1.0, None
    while True:
        new = _answers(victim, _drawn(victim, pool, reach, min(PROBES, count), random))
        known = new if known is None else known.joined(new)
        unsure = float(new.logs.exp().mean()) < max(confidence, 1.5 / victim.domain.classes)
        if unsure or len(known.logs) + PROBES > count // 4:
            return known, reach
        reach /= 1.5


def _drawn(
    victim: Victim, pool: Tensor, reach: float, count: int, random: torch.Generator
) -> Tensor:
    """Return points (count, D): corners, inner points and the pool's, drawn in to the origin."""
    origin = basis(victim)[0]
    low, high = _sides(victim)
    dense, choice, inside = (
        torch.rand(count, columns, generator=random, dtype=torch.float64)
        for columns in (1, len(origin), len(origin))
    )
    corner = torch.where(choice < dense, high, low)
    kind, share = torch.rand(2, count, 1, generator=random, dtype=torch.float64)
    end = torch.where(kind < 0.5, corner, low + (high - low) * inside)
    if len(pool):  # public inputs meet every class
        rows = torch.randint(len(pool), (count,), generator=random)
        end[::2] = pool.flatten(1).double()[rows][::2]
    return origin + reach * share * (end - origin)


def _informative(
    victim: Victim, known: Tops, inner: Tensor, where: tuple[Tensor, Tensor, float], count: int,
    random: torch.Generator,
) -> Tensor:  # fmt: skip
    """Return points (count, D), of drawn ones and of corners where by the fit some class leads."""
    frame, pool, reach = where
    origin, table = basis(victim)[0], (frame @ inner)[:, :-1]
    low, high = _sides(victim)
    one, two = torch.randint(len(table), (2, AIMED), generator=random)
    rival = torch.where(
        torch.rand(AIMED, 1, generator=random) < 0.5, table[two], table.mean(0, keepdim=True)
    )
    way = table[one] - rival
    blur = 2 * torch.rand(AIMED, 1, generator=random, dtype=torch.float64)
    noise = torch.randn(way.shape, generator=random, dtype=torch.float64)
    corner = torch.where(way + way.std(1, keepdim=True) * blur * noise > 0, high, low)
    share = torch.rand(AIMED, 1, generator=random, dtype=torch.float64) * min(1.0, 1.5 * reach)
    points = torch.cat(
        [_drawn(victim, pool, reach, DRAWN, random), origin + share * (corner - origin)]
    )
    extended = torch.cat([points, torch.ones(len(points), 1, dtype=torch.float64)], 1)
    foretold = (extended @ (frame @ inner).T).argmax(1)
    told = slopes(known.points, known.classes, inner, frame)[1]
    information = told.T @ told
    information.diagonal().add_(1e-6)
    rows = slopes(extended, foretold, inner, frame)[1]
    return points[a_optimal(rows, torch.linalg.inv(information), count)]


def _sides(victim: Victim) -> tuple[Tensor, Tensor]:
    """Return the box's sides; where inputs are free, three of its widths about the origin."""
    low, high = victim.domain.low, victim.domain.high
    if victim.terms.inputs == "free":
        low, high = -3 * (high - low), 3 * (high - low)
    return torch.tensor(low, dtype=torch.float64), torch.tensor(high, dtype=torch.float64)
