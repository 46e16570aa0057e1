"""Random windows and short gradient walks by turns: each frees the other where it is stuck.

Windows cross ridges at which the gradient points nowhere useful; from where they land, a few small
gradient steps gain what hundreds of windows would.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._answers import still_open
from trustml.attacks._flights import take
from trustml.attacks._losses import margin
from trustml.attacks._pursuit import Best, Seen, pursue
from trustml.attacks._quarry import Quarry
from trustml.attacks._square_moves import Hunt
from trustml.attacks._windows import plane_of
from trustml.attacks.square import (
    DRAWN,
    Schedule,
    Search,
    begin_hunt,
    climb_on,
    put,
    searching,
    standing,
)
from trustml.contracts import Classifier, Random, Threat
from trustml.geometry import interval, like, pull, steepest

# Windows are sized as in a search of so many queries (in the paper's way, of 1 200: both count a
# query as 8.3 of 10 000), of which the small last ones are never come to: gradients do their work.
# First share of the entries as in Andriushchenko et al. 2020.
_SCHEDULED, _FIRST_SHARE = 144, 0.8
# A walk: its steps, their first and last length as shares of epsilon, what is kept of each.
_STEPS, _LONG, _SHORT, _MOMENTUM = 6, 0.2, 0.02, 0.75
# Near is a margin that has lost all but this share of what it was at the input. On an adversarially
# trained CNN, of 34 samples that one start had not turned but 1 500 windows could, 33 were near
# after it; of others, plainly robust ones, 5 in 100.
NEAR = 0.2
_TINY = 1e-30
# Starts that are searched from at once, of several samples.
_SIDE_BY_SIDE = 512


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """A walk with momentum: the point and the direction (B, *S), the bounds of an Linf ball."""

    point: Tensor
    direction: Tensor
    lower: Tensor | None
    upper: Tensor | None
    step: int = 0


def alternate(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    random: Random,
    /,
    *,
    rounds: int,
    more: int,
    bursts: int,
) -> Tensor:
    """Return the points (B, *S) of the highest margin that windows and walks by turns have found.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: an Linf or L2 ball, the box and the goal.
        random: the samples' random numbers.
        rounds: random starts for each sample that is not won earlier.
        more: further starts, side by side, for those that are near to being won by then.
        bursts: turns of 64 windows and one walk in each round.

    Raises:
        NotApplicable: the model's answers have no gradient.
        MethodFailed: the model answers NaN.
    """
    search = searching(threat, x.shape[1:], "margin")
    schedule = Schedule(plane_of(x.shape[1:]), threat.norm, _FIRST_SHARE, _SCHEDULED)
    with frozen(model), torch.no_grad():
        held = standing(x, y, threat)
        clean = search(model, held)
        over = (clean == torch.inf) | (held.epsilon[:, 0] == 0)
        held = replace(held, loss=torch.where(over, torch.inf, -torch.inf).to(x.dtype))
        quarry = Quarry(x, y, threat, random)
        for number in range(rounds):
            _one_round(model, quarry, held, search, schedule, random.fold(number), bursts)
        # Told by each sample's own numbers, so that nobody's verdict hangs on another's.
        near = (held.loss >= NEAR * clean) & (held.loss < torch.inf)
        if more:
            starts = torch.arange(rounds, rounds + more, device=x.device)
            for rows in near.nonzero()[:, 0].split(max(_SIDE_BY_SIDE // more, 1)):
                _many_starts(model, quarry.at(rows), held, rows, search, schedule, starts, bursts)
    return threat.project(held.point.view_as(x), x)


def _many_starts(
    model: Classifier,
    quarry: Quarry,
    held: Hunt,
    rows: Tensor,
    search: Search,
    schedule: Schedule,
    starts: Tensor,
    bursts: int,
) -> None:
    """Search from several random starts of each sample at once; write the best into `held`.

    All starts of a sample go together and end when one of them has won, so that what is found does
    not depend on which other samples are there.
    """
    count = len(starts)
    owner = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
    wide = quarry.at(owner)
    random = wide.random.fold(starts.repeat(len(rows)))
    part = at(model, rows[owner])
    own = replace(take(held, rows[owner]), rows=torch.arange(len(owner), device=rows.device))
    own = replace(own, loss=torch.full_like(own.loss, -torch.inf))
    hunt = begin_hunt(part, own, search, random, schedule)
    for burst in range(bursts):
        hunt = _burst(part, wide, own, hunt, search, schedule, random, burst)
        won = (own.loss == torch.inf).view(-1, count).any(1)
        hunt = take(hunt, (~won[owner[hunt.rows]]).nonzero()[:, 0])
        if not len(hunt.rows):
            break
    best = own.loss.view(-1, count).argmax(1) + count * torch.arange(len(rows), device=rows.device)
    put(held, replace(take(own, best), rows=rows))


def _one_round(
    model: Classifier,
    quarry: Quarry,
    held: Hunt,
    search: Search,
    schedule: Schedule,
    random: Random,
    bursts: int,
) -> None:
    """Search from one random start; write what is better into `held`."""
    hunt = begin_hunt(model, held, search, random, schedule)
    for burst in range(bursts):
        hunt = _burst(model, quarry, held, hunt, search, schedule, random, burst)
        if not len(hunt.rows):
            return


def _burst(
    model: Classifier,
    quarry: Quarry,
    held: Hunt,
    hunt: Hunt,
    search: Search,
    schedule: Schedule,
    random: Random,
    burst: int,
) -> Hunt:
    """Return those not won after a turn of windows and one walk; `held` gets what is better."""
    steps = range(1 + burst * DRAWN, 1 + (burst + 1) * DRAWN)
    hunt = climb_on(model, held, hunt, search, random, schedule, steps)
    if not len(hunt.rows):
        return hunt
    hunt = _walked(at(model, hunt.rows), hunt, quarry.at(hunt.rows))
    put(held, hunt)
    return take(hunt, still_open(hunt.loss))


def _walked(model: Classifier, hunt: Hunt, quarry: Quarry) -> Hunt:
    """Return the hunt at the best points of short walks from where it stands."""
    start = hunt.point.view_as(quarry.x)
    best = pursue(
        model, replace(quarry, start=start), Best(start, hunt.loss), steps=_STEPS,
        begin=_begin, advance=_advance,
        loss=lambda logits, hunted: margin(logits, hunted.y, hunted.threat.targeted),
    )  # fmt: skip
    # A copy: the search moves its points in place.
    return replace(hunt, point=best.point.flatten(1).clone(), loss=best.loss)


def _begin(quarry: Quarry) -> Drift:
    assert quarry.start is not None
    x, threat = quarry.x, quarry.threat
    bounds: tuple[Tensor | None, Tensor | None] = (None, None)
    if threat.norm == "linf":
        bounds = interval(x, threat.budget(x), threat.low, threat.high)
    return Drift(quarry.start, torch.zeros_like(x), *bounds)


def _advance(walk: Drift, seen: Seen, quarry: Quarry) -> Drift:
    """Return the walk one step further along what it keeps of its direction and the gradient."""
    x, threat = quarry.x, quarry.threat
    size = torch.linalg.vector_norm(seen.gradient.flatten(1), ord=1, dim=1).clamp_min(_TINY)
    direction = _MOMENTUM * walk.direction + seen.gradient / like(size, x)
    length = _LONG + (_SHORT - _LONG) * walk.step / _STEPS
    # No useful step is longer than the box is wide.
    epsilon = threat.budget(x).to(x.dtype).expand(len(x), *[1] * (x.dim() - 1))
    widest = (threat.high - threat.low) * (1.0 if threat.norm == "linf" else x[0].numel() ** 0.5)
    point = seen.point + length * epsilon.clamp(max=widest) * steepest(direction, threat.norm)
    if walk.lower is not None and walk.upper is not None:
        point = torch.clamp(point, walk.lower, walk.upper)
    else:
        box = (threat.low, threat.high)
        point = pull(point, x, threat.norm, threat.budget(x), box)
    return Drift(point, direction, walk.lower, walk.upper, walk.step + 1)
