"""The loop that iterative attacks share: look, keep the best, drop the caught, move on.

Everything is arithmetic on each sample alone, so neither its companions nor the moment at which
they leave can change what happens to a sample.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from trustml.access import Handed, at, frozen, once, readings
from trustml.attacks._answers import unwon
from trustml.attacks._flights import Flight, checkpoint, kept, legs, regrouped, room, take
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier
from trustml.errors import NotApplicable
from trustml.geometry import like
from trustml.threats import check_answers, check_readable

NO_GRADIENT = (
    "the model's answers have no gradient with respect to its inputs (detached, or computed "
    "outside torch); use an attack that needs scores or labels only"
)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one look at the points (B, *S) showed: logits (B, K), losses (B,), gradient (B, *S)."""

    point: Tensor
    logits: Tensor
    losses: Tensor
    gradient: Tensor
    reached: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The best point so far (B, *S) and its loss (B,): infinite where the attacker has won."""

    point: Tensor
    loss: Tensor

    def or_better(self, point: Tensor, losses: Tensor, reached: Tensor | None) -> "Best":
        """Return the best after one more point: the first that won, else the highest loss."""
        # A model may compute in another precision than that of its inputs.
        losses = losses.to(self.loss.dtype)
        if reached is not None:
            losses = losses.masked_fill(reached, torch.inf)
        better = like((losses > self.loss).to(point.dtype), point)
        # All or nothing of finite points: exact, and on a CPU a fraction of the time of `where`.
        return Best(torch.lerp(self.point, point, better), torch.maximum(losses, self.loss))

    def open(self) -> Tensor:
        """Return the rows (B',) that have not been won; reads the device once."""
        return (self.loss < torch.inf).nonzero()[:, 0]

    def at(self, rows: Tensor) -> "Best":
        """Return the best of the given rows."""
        return Best(self.point[rows], self.loss[rows])

    def put(self, rows: Tensor, other: "Best") -> "Best":
        """Return this with the given rows replaced by `other`."""
        found = Best(self.point.clone(), self.loss.clone())
        found.write(rows, other)
        return found

    def write(self, rows: Tensor, other: "Best") -> None:
        """Replace the given rows by `other`, in place."""
        self.point.index_copy_(0, rows, other.point)
        self.loss.index_copy_(0, rows, other.loss)


@dataclass(frozen=True, slots=True, eq=False)
class Peak:
    """The highest point (B, *S) that a walk saw, with its loss (B,) and gradient (B, *S)."""

    point: Tensor
    loss: Tensor
    gradient: Tensor

    def or_higher(self, seen: Seen) -> "Peak":
        """Return the peak after one more look."""
        higher = seen.losses > self.loss
        wide = like(higher, seen.point)
        return Peak(
            torch.where(wide, seen.point, self.point),
            torch.where(higher, seen.losses, self.loss),
            torch.where(wide, seen.gradient, self.gradient),
        )


class Walk(Protocol):
    """Where a walk stands: a frozen dataclass whose tensors have one row a sample."""

    @property
    def point(self) -> Tensor: ...


W = TypeVar("W", bound=Walk)
Loss = Callable[[Tensor, Quarry], Tensor]


def untouched(quarry: Quarry) -> Best:
    """Return the inputs themselves, as the best before anything has been tried."""
    return Best(quarry.x, torch.full_like(quarry.y, -torch.inf, dtype=quarry.x.dtype))


def at_rest(model: Classifier, quarry: Quarry) -> Best:
    """Return the inputs as best, won where the model already answers as the attacker wants.

    A quarry that knows the clean answers is not asked for them again.
    """
    with frozen(model), torch.no_grad():
        known = [] if quarry.clean is None else [quarry.clean]
        answers = known or [model(quarry.x) for _ in range(quarry.passes)]
    check_readable(answers[0], quarry.y)
    reached = torch.stack([quarry.threat.reached(said, quarry.y) for said in answers]).all(0)
    # Elsewhere -inf: a walk may offer a better point than standing still.
    nothing = untouched(quarry)
    return Best(nothing.point, nothing.loss.masked_fill(reached, torch.inf))


def clean_answers(model: Classifier, x: Tensor) -> Tensor:
    """Return the logits (B, K) of the inputs, without a gradient."""
    with frozen(model), torch.no_grad():
        return model(x)


def likeliest_others(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Return the classes other than y (B, K-1), the one with the highest logit at x first."""
    with frozen(model), torch.no_grad():
        logits = model(x)
    check_readable(logits, y)
    order = logits.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order[:, :-1]


def pursue(
    model: Classifier,
    quarry: Quarry,
    best: Best,
    /,
    *,
    begin: Callable[[Quarry], W],
    advance: Callable[[W, Seen, Quarry], W],
    loss: Loss,
    steps: int,
    wins: bool = True,
    see: Callable[[Classifier, W, Quarry], tuple[W, Seen]] | None = None,
) -> Best:
    """Return the best after a walk of `steps` moves for each sample that is not won yet.

    Each point of the walk is looked at, the first and the last included; a sample leaves soon
    after a point of it has won. Without `wins` no point counts as won (a walk outside the ball).
    `see` looks in its own way, and may give the walk what it learnt.

    Raises:
        NotApplicable: the model's answers have no gradient with respect to the inputs.
        MethodFailed: the model answers NaN.
    """
    rows, most = best.open(), room(model, quarry.x)
    if not len(rows):
        return best
    see = see or (lambda model, walk, hunted: (walk, look(model, walk.point, hunted, loss)))
    best = Best(best.point.clone(), best.loss.clone())
    flights = [Flight(some, best.at(some), None) for some in rows.split(most)]

    def fly(flight: Flight, leg: range) -> Flight:
        """Return the flight after a leg, those left in it; `best` gets those that have won."""
        rows, held, walk, left = flight.rows, flight.held, flight.walk, flight.left
        hunted, part = _of(quarry, model, rows, left)
        walk = begin(hunted) if walk is None else walk
        for step in leg:
            walk, seen = see(part, walk, hunted)
            held = held.or_better(seen.point, seen.losses, seen.reached if wins else None)
            if checkpoint(step):  # what has become of the losses of those who won does not matter
                now = unwon(held.loss, seen.losses if left is None else seen.losses[left])
                if len(now) < len(rows if left is None else left):
                    left, stay = now, kept(model, now, held.loss == torch.inf)
                    if len(stay) < len(rows):
                        best.write(rows, held)
                        rows, held = rows[stay], held.at(stay)
                        walk, seen = take(walk, stay), take(seen, stay)
                        left = torch.arange(len(left), device=rows.device)
                    if not len(left):
                        break
                    hunted, part = _of(quarry, model, rows, left)
            walk = advance(walk, seen, hunted)
        best.write(rows, held)
        return Flight(rows, held, walk, left)

    with frozen(model):
        for leg in legs(steps):
            flights = regrouped([fly(flight, leg) for flight in flights], most)
        for flight in flights:
            best.write(flight.rows, _last_look(model, flight, quarry, loss, wins=wins))
    return best


def _of(
    quarry: Quarry, model: Classifier, rows: Tensor, left: Tensor | None
) -> tuple[Quarry, Classifier]:
    if left is None and len(rows) == len(quarry.y):
        return quarry, model
    if left is None or len(left) == len(rows) or not isinstance(model, Handed):
        return quarry.at(rows), at(model, rows)
    return quarry.at(rows), model.filled(rows, left)


def look(model: Classifier, point: Tensor, quarry: Quarry, loss: Loss) -> Seen:
    """Return what the model and its gradient with respect to the points (B, *S) say there.

    Forward and back for one block of rows after the other, so that no more than one block's graph
    is alive. Of several passes: the mean loss, its gradient, and whether all of them won.

    Raises:
        NotApplicable: the answers have no gradient with respect to the points.
    """
    passes = max(quarry.passes, readings(model))
    if passes > 1:
        # Losses are averaged, not answers: the expectation that is climbed is that of the loss.
        single = model.single() if isinstance(model, Handed) else model
        return _mean_look(single, point, replace(quarry, passes=passes), loss)
    cut = model.cut(point) if isinstance(model, Handed) else ()
    if len(cut) < 2:
        return _look_at_once(model, point, quarry, loss)
    parts, first = [], 0
    for size in cut:
        last = min(first + size, len(point))
        rows = torch.arange(first, last, device=point.device)
        some = quarry.between(first, last, rows)
        parts.append(_look_at_once(at(model, rows), point[first:last], some, loss))
        first = last
    logits, losses, gradient, reached = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("logits", "losses", "gradient", "reached")
    )
    return Seen(point.detach(), logits, losses, gradient, reached)


def _look_at_once(model: Classifier, point: Tensor, quarry: Quarry, loss: Loss) -> Seen:
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        logits = once(model, point)
        check_answers(logits, len(point))
        losses = loss(logits, quarry)
        if not losses.requires_grad:
            raise NotApplicable(NO_GRADIENT)
        (gradient,) = torch.autograd.grad(losses, point, torch.ones_like(losses))
    logits = logits.detach()
    reached = quarry.threat.reached(logits, quarry.y)
    return Seen(point.detach(), logits, losses.detach(), gradient, reached)


def _mean_look(model: Classifier, point: Tensor, quarry: Quarry, loss: Loss) -> Seen:
    """Return what several passes show of the same points, as one look."""
    once, count = replace(quarry, passes=1), quarry.passes
    seen = look(model, point, once, loss)
    losses, gradient, reached = seen.losses, seen.gradient, seen.reached
    for _ in range(count - 1):
        seen = look(model, point, once, loss)
        losses, gradient = losses + seen.losses, gradient + seen.gradient
        reached = reached & seen.reached
    return Seen(seen.point, seen.logits, losses / count, gradient / count, reached)


def _last_look(
    model: Classifier, flight: Flight, quarry: Quarry, loss: Loss, *, wins: bool
) -> Best:
    hunted, part = _of(quarry, model, flight.rows, flight.left)
    point, held = flight.walk.point, flight.held
    with torch.no_grad():
        answers = [part(point) for _ in range(hunted.passes)]
        reached = torch.stack([hunted.threat.reached(said, hunted.y) for said in answers]).all(0)
        losses = torch.stack([loss(said, hunted) for said in answers]).mean(0)
        return held.or_better(point, losses, reached if wins else None)
