"""Square attack: random windows moved to the edge of the ball, kept where the loss rises."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._answers import scored, still_open
from trustml.attacks._flights import take
from trustml.attacks._losses import LossName
from trustml.attacks._square_moves import Hunt, Patch, stripes, tiles, to_a_dipole, to_a_wall
from trustml.attacks._windows import Plane, plane_of
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import interval
from trustml.registry import attack

# Up to which of 10 000 queries a window has its first size, then half of it, a quarter, …
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Random numbers are drawn for this many queries at once.
DRAWN = 64
# Won samples leave after each of the first queries, then after every few.
_EARLY, _EVERY = 8, 8


Propose = Callable[[Hunt, Plane, float, Tensor], tuple[Patch, ...]]
Search = Callable[[Classifier, Hunt], Tensor]


@attack(
    source="Andriushchenko et al. 2020, arXiv:1912.00049; L1: Croce & Hein 2021, arXiv:2103.01208",
    needs=Access.PROBABILITIES,
    norms=("linf", "l2", "l1"),
)
def square(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    initial_share: float = 0.8,
    restarts: int = 1,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss that a random search within the ball found.

    Windows are squares in images and runs of entries in inputs of any other shape. With fewer than
    10 000 queries they shrink later than in the paper.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most, all restarts together.
        initial_share: share of the entries that the first windows cover.
        restarts: searches that share the queries.
        loss: what is climbed.

    Raises:
        BadOption: too few queries for the restarts, or a share that is not in (0, 1].
        MethodFailed: the model answers NaN.
    """
    _check(queries, initial_share, restarts)

    search = searching(threat, x.shape[1:], loss)
    with frozen(model), torch.no_grad():
        held = standing(x, y, threat)
        # What is not won yet may move anywhere, for better or worse; a budget of 0 nowhere.
        over = (search(model, held) == torch.inf) | (held.epsilon[:, 0] == 0)
        held = replace(held, loss=torch.where(over, torch.inf, -torch.inf).to(x.dtype))
        plane = plane_of(x.shape[1:])
        steps = (queries - 1) // restarts
        schedule = Schedule(plane, threat.norm, initial_share, steps)
        for restart in range(restarts):
            numbers = random.fold(restart)
            hunt = begin_hunt(model, held, search, numbers, schedule)
            climb_on(model, held, hunt, search, numbers, schedule, range(1, steps))
    return threat.project(held.point.view_as(x), x)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How windows are chosen over the queries of one search."""

    plane: Plane
    norm: str
    initial_share: float
    steps: int

    def share(self, step: int) -> float:
        """Return the share of the entries that the window of this query covers."""
        # The paper goes by the share of the queries that is spent, which shrinks windows too soon
        # where there are few; the authors' later code by their number, as is best in L1. The mean
        # of both is the best in Linf and L2 (400 and 2 000 queries, adversarially trained).
        done = step if self.norm == "l1" else math.isqrt(10_000 * step**2 // self.steps)
        return self.initial_share / 2 ** sum(done > place for place in _HALVINGS)

    @property
    def numbers(self) -> int:
        """How many random numbers one query takes."""
        return self.plane.channels + (2 if self.norm == "linf" else 5)


def searching(threat: Threat, shape: torch.Size, loss: LossName) -> Search:
    """Return what asks the model how high the loss (B,) is where a hunt stands."""

    def search(part: Classifier, hunt: Hunt) -> Tensor:
        return scored(part, hunt.point.view(-1, *shape), hunt.y, threat, loss)

    return search


def begin_hunt(
    model: Classifier, held: Hunt, search: Search, random: Random, schedule: Schedule
) -> Hunt:
    """Return the samples of `held` that are not won, each at a random start."""
    begin, _ = _MOVES[schedule.norm]
    rows = still_open(held.loss)
    hunt = take(held, rows)
    if not len(rows):
        return hunt
    hunt = replace(hunt, point=begin(hunt, schedule.plane, random.at(rows)))
    return replace(hunt, loss=search(at(model, rows), hunt))


def climb_on(
    model: Classifier,
    held: Hunt,
    hunt: Hunt,
    search: Search,
    random: Random,
    schedule: Schedule,
    steps: range,
) -> Hunt:
    """Return those not won after these steps from where `hunt` stands; `held` gets what is better.

    The steps begin one past a multiple of `DRAWN`.
    """
    _, propose = _MOVES[schedule.norm]
    if not len(hunt.rows):
        return hunt
    part = at(model, hunt.rows)
    for step in steps:
        if step <= _EARLY or step % _EVERY == 0:
            left = still_open(hunt.loss)
            if len(left) < len(hunt.rows):
                put(held, hunt)
                hunt = take(hunt, left)
                if not len(left):
                    return hunt
                part = at(model, hunt.rows)
        turn = (step - 1) % DRAWN
        if turn == 0:
            shape = (DRAWN, schedule.numbers)
            draws = random.at(hunt.rows).uniform(shape, "windows", step)
            hunt = replace(hunt, draws=draws)
        patches = propose(hunt, schedule.plane, schedule.share(step), hunt.draws[:, turn])
        hunt = _tried(part, hunt, patches, search)
    put(held, hunt)
    return take(hunt, still_open(hunt.loss))


def _tried(
    part: Classifier,
    hunt: Hunt,
    patches: tuple[Patch, ...],
    search: Search,
) -> Hunt:
    """Return the hunt with the patches where they raise the loss; its points change in place."""
    for patch in patches:
        hunt.point.scatter_(1, patch.index, patch.new)
    losses = search(part, hunt)
    better = losses > hunt.loss
    for patch in reversed(patches):
        now = hunt.point.gather(1, patch.index)
        hunt.point.scatter_(1, patch.index, torch.where(better[:, None], now, patch.old))
    # NaN stays, so that the next look at the losses finds it.
    return replace(hunt, loss=torch.where(better | losses.isnan(), losses, hunt.loss))


def put(held: Hunt, hunt: Hunt) -> None:
    """Write into `held`, in place, what `hunt` has found better for its rows."""
    better = hunt.loss > held.loss[hunt.rows]
    rows = hunt.rows[better]
    held.point[rows] = hunt.point[better]
    held.loss[rows] = hunt.loss[better]


_MOVES: dict[str, tuple[Callable[[Hunt, Plane, Random], Tensor], Propose]] = {
    "linf": (stripes, to_a_wall),
    "l2": (tiles, to_a_dipole),
    "l1": (partial(tiles, order=1), partial(to_a_dipole, order=1)),
}


def standing(x: Tensor, y: Tensor, threat: Threat) -> Hunt:
    """Return all samples where they are."""
    epsilon = threat.budget(x).expand(len(x), *[1] * (x.dim() - 1))
    lower, upper = torch.full_like(x, threat.low), torch.full_like(x, threat.high)
    if threat.norm == "linf":
        lower, upper = interval(x, epsilon, threat.low, threat.high)
    # No move within the box is longer than the box is wide, so an infinite budget is that.
    count = x[0].numel() ** (1.0 if threat.norm == "l1" else 0.5)
    far = epsilon.clamp(max=(threat.high - threat.low) * count).reshape(-1, 1)
    # A hair's breadth inside, so that the projection at the end need not move what was judged.
    blur = torch.finfo(x.dtype).eps * max(abs(threat.low), abs(threat.high)) * count
    far = far - torch.minimum(far * 1e-6 + blur, far * 1e-3)
    return Hunt(
        rows=torch.arange(len(x), device=x.device),
        x=x.flatten(1),
        y=y,
        lower=lower.flatten(1),
        upper=upper.flatten(1),
        epsilon=far.to(x.dtype),
        point=x.flatten(1).clone(),
        loss=x.new_zeros(len(x)),
        draws=x.new_zeros(len(x), 0),
    )


def _check(queries: int, initial_share: float, restarts: int) -> None:
    if restarts < 1 or queries < 1 + restarts:
        raise BadOption(
            f"square: queries={queries} is not allowed with restarts={restarts}: one query for the "
            f"input and one or more for each of 1 or more restarts"
        )
    if not 0 < initial_share <= 1:
        raise BadOption(f"square: initial_share={initial_share} must be above 0 and at most 1")
