"""A network with one hidden ReLU layer, to the last digits: bends on lines, normals, signs."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trustml.contracts import Access, Symmetry, Theft, Victim
from trustml.errors import BadOption, BudgetSpent, MethodFailed, NotApplicable, Refused
from trustml.registry import stealer
from trustml.stealing._bends import Bends, Line, find_bends
from trustml.stealing._heights import Heights
from trustml.stealing._missing import Check, check, find_missing
from trustml.stealing._normals import Beside, Normals, find_normals
from trustml.stealing._refit import refitted
from trustml.stealing._units import Units, put_together, without_way_around
from trustml.victim import least_access, least_budget

# In a box the line stops this far from the wall, as a share of its length: steps need room.
WALL = 0.02
# Where units may have been out of the line's reach, that many times the checks must agree.
THOROUGH = 16


@stealer(
    source="Jagielski et al. 2020, USENIX Security (arXiv:1909.01838), section 5, and Carlini et "
    "al. 2020, CRYPTO (arXiv:2003.04884), section 4; all units from one line",
    needs=Access.PROBABILITIES,
)
def relu_exact(
    victim: Victim,
    pool: Tensor,
    fresh: Callable[[], nn.Module],
    /,
    *,
    random: torch.Generator,
    checks: int = 6,
    repairs: int = 100,
    refit: int = 800,
) -> Theft:
    """Take a one-hidden-layer ReLU network apart: logits, or log-ratios of probabilities.

    Args:
        checks: random points that must all agree before the copy is called right.
        repairs: how often units that the copy lacks are looked for, each time between a point
            where it is right and one where it is not.
        refit: further queries that the outer weights of a copy are fitted to which is not right, as
            in float32; 0 leaves it as it is.

    Raises:
        NotApplicable: too little is answered, probabilities are rounded, inputs are 8-bit, the
            budget is too small (the message says for what), or answers are not piecewise affine.
        BadOption: fewer than 1 check, or fewer than 0 repairs or queries of the refit.
        MethodFailed: the softmax saturates everywhere on the line.
    """
    _check_terms(victim, checks, min(repairs, refit))
    before = victim.queries
    heights = Heights(victim)
    units, pure, home, facts = _first_line(heights, random)
    first = _Found(units, pure, Check(math.inf, math.inf, False), 0)
    earlier = []
    for found in _repaired(heights, first, home, pool, (checks, repairs), random):
        copy = _copy(found.units, heights, found.pure)
        earlier.append(Theft(copy, {}, victim.queries - before))
    units, pure, verdict, passed = found.units, found.pure, found.verdict, found.passed
    turned = None if pure else without_way_around(units)
    if turned is not None:
        units, pure = turned[0], True
        facts |= {"signs found": True, "rounding margin of the signs": turned[1]}
    if not verdict.right and refit:
        units, pure, told = _refitted(heights, (units, pure), pool, refit, random)
        facts |= told
    certificate = facts | {
        "units": len(units.inner),
        "repairs": len(earlier) - 2,
        "largest gap at the checks": verdict.gap,
        "gap that rounding explains": verdict.allowed,
        "checks in a row that agreed": passed if verdict.right else 0,
        "right": verdict.right,
    }
    up_to: Symmetry = "behaviour"
    if pure and verdict.right:
        up_to = "units" if victim.terms.answers == Access.LOGITS else "units and shift"
    copy = _copy(units, heights, pure)
    return Theft(copy, certificate, victim.queries - before, up_to, tuple(earlier[:-2]))


def _refitted(
    heights: Heights, known: tuple[Units, bool], pool: Tensor, count: int, random: torch.Generator
) -> tuple[Units, bool, dict]:
    """Return the units, whether they are all without a way around, and what the fit has done."""
    try:
        found = refitted(heights, known[0], pool, count, random)
    except (BudgetSpent, Refused):
        found = None
    if found is None:
        return *known, {}
    units, before, after = found
    return units, False, {"median gap before the refit": before, "and after it": after}


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What is known: the units, whether they are all, the last check, checks in a row passed."""

    units: Units
    pure: bool
    verdict: Check
    passed: int


def _repaired(
    heights: Heights,
    found: _Found,
    home: Tensor,
    pool: Tensor,
    limits: tuple[int, int],
    random: torch.Generator,
) -> Iterator[_Found]:
    """Yield what was known at first, after each repair, and at the end."""
    (checks, repairs), terms = limits, heights.victim.terms
    # Free logits show every unit on the line.
    all_seen = terms.inputs == "free" and terms.answers == Access.LOGITS
    yield found
    try:
        while found.passed < (checks if found.pure and all_seen else THOROUGH * checks):
            verdict = check(heights, found.units, pool, checks, random)
            found = replace(found, verdict=verdict, passed=found.passed + checks)
            if verdict.right:
                continue
            if verdict.bad is None or repairs == 0:
                break
            good = home if verdict.good is None else verdict.good
            more = find_missing(heights, found.units, good, verdict.bad, random)
            if more is None:
                break
            found, repairs = _Found(more, False, verdict, 0), repairs - 1
            yield found
    except (BudgetSpent, Refused):
        found = replace(found, verdict=replace(found.verdict, right=False))
    yield found


def _check_terms(victim: Victim, checks: int, repairs: int) -> None:
    least_access(victim, Access.PROBABILITIES, "relu_exact")
    if checks < 1 or repairs < 0:
        raise BadOption(
            f"checks={checks}, repairs or refit={repairs}: at least 1 check, 0 of the others"
        )
    if victim.terms.decimals is not None or victim.terms.inputs == "8-bit":
        raise NotApplicable(
            "relu_exact needs unrounded answers and inputs finer than 8 bits, and this victim "
            "rounds: knockoff and active learn from what it answers"
        )
    least_budget(victim, math.prod(victim.domain.shape) + 8, "relu_exact")


def _copy(units: Units, heights: Heights, pure: bool) -> nn.Module:
    return units.copy(heights.victim.domain, heights.mixing, pure)


def _first_line(heights: Heights, random: torch.Generator) -> tuple[Units, bool, Tensor, dict]:
    """Return what one line tells, whether it is all without a way around, and facts about it."""
    victim, before = heights.victim, heights.victim.queries
    beside, exact = _through(heights, random), heights.precision
    line = Line(
        lambda t: heights((beside.origin + t * beside.direction)[None])[0],
        lambda answer: float(heights.noise(answer[None])),
        beside.low, beside.high, beside.scale, exact.step,
    )  # fmt: skip
    bends = find_bends(line)
    on_line = victim.queries - before
    # Two spare places, and a few directions to find the signs by.
    needed = (-(-len(bends.places) // bends.jumps.shape[1]) + 3) * (heights.size + 4)
    least_budget(victim, heights.size - 1, f"relu_exact with {len(bends.places)} units")
    try:
        normals = find_normals(beside, bends, random)
    except BudgetSpent as spent:
        raise NotApplicable(
            f"relu_exact met {len(bends.places)} units in {on_line} queries, and the budget of "
            f"{victim.terms.budget} ended before their weights were known: {needed} more would do"
        ) from spent
    units = put_together(bends, normals, beside.origin, beside.direction)
    pure = normals.flipped is not None
    return units, pure, beside.origin, _facts(bends, normals, on_line)


def _facts(bends: Bends, normals: Normals, on_line: int) -> dict:
    return {
        "bends on the line": len(bends.places),
        "bends too close to tell apart": bends.unresolved,
        "queries on the line": on_line,
        "expected relative error of a normal": float(normals.doubt.max())
        if len(normals.doubt)
        else 0.0,
        "signs found": normals.flipped is not None,
        "rounding margin of the signs": normals.margin if math.isfinite(normals.margin) else None,
    }


def _through(heights: Heights, random: torch.Generator) -> Beside:
    """Return a random line through the box: as long as inputs and softmax allow."""
    domain, terms = heights.victim.domain, heights.victim.terms
    side = domain.high - domain.low
    center = domain.low + side / 2
    spread = torch.rand(heights.size, generator=random, dtype=torch.float64) - 0.5
    origin = center + 0.1 * side * spread
    direction = torch.randn(heights.size, generator=random, dtype=torch.float64)
    if terms.inputs != "free":  # nearly a diagonal: the longest way through
        direction = direction.sign() * (1 + torch.rand(heights.size, generator=random).double())
    direction /= direction.norm()
    scale = side * math.sqrt(heights.size) / 2

    def room(point: Tensor, directions: Tensor) -> Tensor:
        if terms.inputs == "free":
            return torch.full((len(directions),), math.inf, dtype=torch.float64)
        wall = torch.where(directions > 0, domain.high - point, domain.low - point)
        return (wall / directions).nan_to_num(nan=math.inf).amin(dim=1)

    ends, exact = [], heights.precision
    for way in (-1.0, 1.0):
        far = exact.far * scale
        if terms.inputs != "free":
            far = (1 - WALL) * float(room(origin, way * direction[None]))
        ends.append(way * _unsaturated(heights, origin, way * direction, far))
    return Beside(
        heights, heights.noise, room, origin, direction, ends[0], ends[1], scale,
        exact.spare, exact.caution, exact.enough,
    )  # fmt: skip


def _unsaturated(heights: Heights, origin: Tensor, direction: Tensor, far: float) -> float:
    """Return how far one may go before a probability vanishes.

    Raises:
        MethodFailed: no way at all.
    """
    if heights.victim.terms.answers == Access.LOGITS:
        return far
    for _ in range(40):
        if not bool(heights.or_nan((origin + far * direction)[None]).isnan().any()):
            return far
        far /= 2
    raise MethodFailed("a probability has vanished wherever the line begins: no log-ratios")
