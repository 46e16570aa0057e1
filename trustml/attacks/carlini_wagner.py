"""Carlini & Wagner's attack: distance and misreading weighed against each other, without a wall."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.attacks._losses import margin
from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Seen, look
from trustml.attacks._quarry import Quarry
from trustml.attacks._shrinking import Search, shrunk
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

_MEAN, _SQUARE, _TINY = 0.9, 0.999, 1e-12
# A weight that did not do is this many times as large in the next search.
_HEAVIER = {"l2": 10.0, "linf": 2.0}
# Winners this much beyond the limit count as within: the last hair takes the longest.
_NEARLY = 1.05
# The step shrinks with the limit once that is below a third of half the box.
_PACE = 3.0
# Among few entries (L0) the distance says no more than which of them to take.
_HEAVY = 1e3


@dataclass(frozen=True, slots=True, eq=False)
class Open:
    """Where a search stands in the open space that tanh wraps up into the box.

    Args:
        point: (B, *S) in the box; `place` is w (B, *S) in the open space, `bent` its tanh.
        mean: Adam's mean (B, *S) of slopes; `square` of their squares.
        weight: (B,) what misreading weighs against distance; below 0 before the first look.
        limit: (B,) in Linf, how far an entry may move at no cost.
        least: (B,) the largest weight (L2) or limit (Linf) that failed; `most` the least that did.
        won: (B,) whether a point of this search has won.
        step: looks of this search.
        free: (B, *S) in L0, the entries that may move.
    """

    point: Tensor
    place: Tensor
    bent: Tensor
    mean: Tensor
    square: Tensor
    weight: Tensor
    limit: Tensor
    least: Tensor
    most: Tensor
    won: Tensor
    step: int = 0
    free: Tensor | None = None


@attack(
    source="Carlini & Wagner 2017, arXiv:1608.04644, §V.D and §VI",
    needs=Access.GRADIENTS,
    norms=("l2", "linf", "l0"),
    minimum_norm=True,
)
def carlini_wagner(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    searches: int = 9,
    rate: float = 0.1,
    shrink: float = 0.99,
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest points (B, *S) found that win; the input itself where none is found.

    L2: each search begins at the input; its weight is halved in between, or grows tenfold. Linf:
    each search goes on from a winner with a lower limit for all entries, or again from the input.
    L0: in L2, then again and again a search from the winner without the entries that could do
    least for it; half of them, or fewer where half did not do (the paper leaves out one).
    The first weight is what would do for an affine model, so logits may have any scale.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the norm, the box and the goal; the budget only matters to `stop_inside`.
        random: not used.
        steps: looks of one search.
        searches: searches for each sample, one after the other.
        rate: Adam's step at the beginning of a search; it falls to nothing by its end.
        shrink: how far walls are brought in before tanh is inverted. At 1 entries at a wall never
            move; the paper's code has 0.999999, which takes long.
        stop_inside: leave a sample alone once a winning point is within the budget.

    Raises:
        BadOption: a count below 1, a rate not above 0, a shrink not between 0 and 1.
        NotApplicable: the model's answers have no gradient.
    """
    if steps < 1 or searches < 1:
        raise BadOption(f"carlini_wagner: steps={steps} and searches={searches} must be 1 or more")
    if not rate > 0 or not 0 < shrink < 1:
        raise BadOption(f"carlini_wagner: rate={rate} must be above 0, shrink={shrink} in (0, 1)")

    search = _search(steps, searches, rate=rate, shrink=shrink)
    quarry = Quarry(x, y, threat, random)
    if threat.norm == "l0":
        again = _search(steps, 1, rate=rate, shrink=shrink)
        return answer(shrunk(model, quarry, (search, again), stop_inside), quarry)
    return answer(search(model, quarry, stop_inside), quarry)


def _search(steps: int, searches: int, *, rate: float, shrink: float) -> Search:
    """Return what finds the nearest in L2 or Linf, by so many searches of so many looks each."""

    def begin(quarry: Quarry, nearest: Nearest) -> Open:
        return _begin(quarry, shrink)

    def advance(walk: Open, seen: Seen, quarry: Quarry, nearest: Nearest) -> Open:
        walk = replace(walk, won=walk.won | seen.reached)
        if walk.free is not None:
            seen = replace(seen, gradient=seen.gradient.masked_fill(~walk.free, 0.0))
        if walk.step == steps - 1:
            return _search_anew(walk, _begin(quarry, shrink), quarry, nearest)
        if walk.step == 0:
            walk = _weighed(walk, seen, quarry)
        return _moved(walk, seen, quarry, rate=rate * (1 - walk.step / steps), shrink=shrink)

    def search(model: Classifier, quarry: Quarry, stop_inside: bool) -> Nearest:
        return close_in(
            model, quarry, at_home(model, quarry), begin=begin, see=_see, advance=advance,
            steps=steps * searches, stop_inside=stop_inside,
        )  # fmt: skip

    return search


def _see(model: Classifier, walk: Open, quarry: Quarry) -> Seen:
    def lead(logits: Tensor, quarry: Quarry) -> Tensor:
        return margin(logits, quarry.y, quarry.threat.targeted)

    return look(model, walk.point, quarry, lead)


def _begin(quarry: Quarry, shrink: float) -> Open:
    """Return the search at the inputs, or where the quarry starts."""
    x = quarry.x if quarry.start is None else quarry.start
    middle, half = _middle_and_half(quarry.threat)
    bent, still = shrink * (x - middle) / half, torch.zeros_like(x)
    place = bent.double().atanh().to(x.dtype)
    none = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    return Open(
        x, place, bent, still, still, weight=none - 1, limit=none,
        least=none, most=none + torch.inf, won=none.bool(),
        free=None if quarry.start is None else quarry.start != quarry.x,
    )  # fmt: skip


def _weighed(walk: Open, seen: Seen, quarry: Quarry) -> Open:
    """Return the walk with a first weight and limit, those that suit an affine model."""
    slope, lacking = seen.gradient.flatten(1).double(), seen.losses.abs().double()
    if quarry.threat.norm == "l2":
        weight = 2 * lacking / slope.square().sum(1).clamp_min(_TINY)
    else:
        weight = 1 / slope.abs().amax(1).clamp_min(_TINY)
    limit = 2 * lacking / slope.abs().sum(1).clamp_min(_TINY)
    limit = limit.clamp(_TINY, 2 * _middle_and_half(quarry.threat)[1])
    weight = weight * (1.0 if walk.free is None else _HEAVY)
    new, kind = walk.weight < 0, walk.weight.dtype
    return replace(
        walk,
        weight=torch.where(new, weight.clamp_min(_TINY).to(kind), walk.weight),
        limit=torch.where(new, limit.to(kind), walk.limit),
    )


def _moved(walk: Open, seen: Seen, quarry: Quarry, *, rate: float, shrink: float) -> Open:
    """Return the walk one step of Adam further down distance + weight · max(−lead, 0)."""
    threat, (middle, half) = quarry.threat, _middle_and_half(quarry.threat)
    move = walk.point - quarry.x
    if threat.norm == "l2":
        cost, pace = 2 * move, torch.full_like(walk.limit, rate)
    else:
        cost = torch.where(move.abs() > like(walk.limit, move), move.sign(), 0.0)
        # No entry shall jump far beyond a limit that is tight.
        pace = (_PACE * walk.limit / half).clamp(max=1.0) * rate
    # Once a point has won there is nothing to be climbed: only the distance pulls.
    pull = like(walk.weight.masked_fill(seen.reached, 0.0), move) * seen.gradient
    slope = (cost - pull) * (1 - walk.bent.square())
    mean = _MEAN * walk.mean + (1 - _MEAN) * slope
    square = _SQUARE * walk.square + (1 - _SQUARE) * slope.square()
    step = walk.step + 1
    size = (square / (1 - _SQUARE**step)).sqrt() + _TINY
    place = walk.place - like(pace / (1 - _MEAN**step), move) * mean / size
    # In float64, for the last digit of a float32 tanh can depend on where in the batch an entry is.
    bent = place.double().tanh().to(place.dtype)
    point = (middle + half / shrink * bent).clamp(threat.low, threat.high)
    point = point if walk.free is None else torch.where(walk.free, point, quarry.x)
    return replace(
        walk, point=point, place=place, bent=bent, mean=mean, square=square, step=step
    )  # fmt: skip


def _search_anew(walk: Open, fresh: Open, quarry: Quarry, nearest: Nearest) -> Open:
    """Return the walk at the beginning of its next search."""
    norm = quarry.threat.norm
    weight = torch.where(walk.won, walk.weight, walk.weight * _HEAVIER[norm])
    if norm == "l2":
        most = torch.where(walk.won, torch.minimum(walk.most, walk.weight), walk.most)
        least = torch.where(walk.won, walk.least, torch.maximum(walk.least, walk.weight))
        weight = torch.where(most < torch.inf, (least + most) / 2, weight)
        return replace(fresh, weight=weight, least=least, most=most)
    best = nearest.distance.to(walk.limit.dtype)
    most, lost = torch.minimum(best, walk.most), best > walk.limit * _NEARLY
    least = torch.where(lost, torch.maximum(walk.least, walk.limit), walk.least)
    limit = torch.where(most < torch.inf, (least + most) / 2, 2 * walk.limit)
    warm = like(walk.won, walk.place)
    return replace(
        fresh, weight=weight, limit=limit, least=least, most=most,
        place=torch.where(warm, walk.place, fresh.place),
        bent=torch.where(warm, walk.bent, fresh.bent),
        point=torch.where(warm, walk.point, fresh.point),
    )  # fmt: skip


def _middle_and_half(threat: Threat) -> tuple[float, float]:
    return (threat.high + threat.low) / 2, (threat.high - threat.low) / 2
