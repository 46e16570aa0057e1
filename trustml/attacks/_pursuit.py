"""The loop that iterative attacks share: look, keep the best, drop the caught, move on.

Everything is arithmetic on each sample alone, so neither its companions nor the moment at which
they leave can change what happens to a sample.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.contracts import Classifier, Random, Threat
from trustml.errors import MethodFailed, NotApplicable
from trustml.geometry import like
from trustml.threats import check_answers, check_readable

# The first steps catch most of what can be caught at all; later a look every few is enough.
_EARLY, _EVERY = 4, 5


@dataclass(frozen=True, slots=True, eq=False)
class Quarry:
    """The samples that are gone after: inputs, labels, threat and random numbers of B rows.

    `target` (B,) is the class that a walk aims at, `start` (B, *S) the point where it begins, where
    it needs them. A model that answers at random is asked `passes` times about each point.
    """

    x: Tensor
    y: Tensor
    threat: Threat
    random: Random
    target: Tensor | None = None
    start: Tensor | None = None
    passes: int = 1

    def at(self, rows: Tensor) -> "Quarry":
        """Return the quarry of the given rows."""
        target, start = (None if t is None else t[rows] for t in (self.target, self.start))
        threat, random = self.threat.at(rows), self.random.at(rows)
        return Quarry(self.x[rows], self.y[rows], threat, random, target, start, self.passes)


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

    def or_better(self, point: Tensor, losses: Tensor, reached: Tensor) -> "Best":
        """Return the best after one more point: the first that won, else the highest loss."""
        # A model may compute in another precision than that of its inputs.
        losses = losses.to(self.loss.dtype).masked_fill(reached, torch.inf)
        better = losses > self.loss
        return Best(
            torch.where(like(better, point), point, self.point), torch.maximum(losses, self.loss)
        )

    def open(self) -> Tensor:
        """Return the rows (B',) that have not been won; reads the device once."""
        return (self.loss < torch.inf).nonzero()[:, 0]

    def at(self, rows: Tensor) -> "Best":
        """Return the best of the given rows."""
        return Best(self.point[rows], self.loss[rows])

    def put(self, rows: Tensor, other: "Best") -> "Best":
        """Return this with the given rows replaced by `other`."""
        return Best(
            self.point.index_copy(0, rows, other.point), self.loss.index_copy(0, rows, other.loss)
        )


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
    """Return the inputs as best, won where the model already answers as the attacker wants."""
    with frozen(model), torch.no_grad():
        answers = [model(quarry.x) for _ in range(quarry.passes)]
    check_readable(answers[0], quarry.y)
    reached = torch.stack([quarry.threat.reached(said, quarry.y) for said in answers]).all(0)
    # Elsewhere -inf: a walk may offer a better point than standing still.
    nothing = untouched(quarry)
    return Best(nothing.point, nothing.loss.masked_fill(reached, torch.inf))


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
) -> Best:
    """Return the best after a walk of `steps` moves for each sample that is not won yet.

    Each point of the walk is looked at, the first and the last included; a sample leaves soon
    after a point of it has won. Without `wins` no point counts as won (a walk outside the ball).

    Raises:
        NotApplicable: the model's answers have no gradient with respect to the inputs.
        MethodFailed: the model answers NaN.
    """
    rows = best.open()
    if not len(rows):
        return best
    everyone = len(rows) == len(quarry.y)
    hunted, held = (quarry, best) if everyone else (quarry.at(rows), best.at(rows))
    part = model if everyone else at(model, rows)
    with frozen(model):
        walk = begin(hunted)
        for step in range(steps):
            seen = look(part, walk.point, hunted, loss)
            held = held.or_better(seen.point, seen.losses, seen.reached & wins)
            if step < _EARLY or step % _EVERY == 0:
                left = _left(held, seen)
                if len(left) < len(rows):
                    best = best.put(rows, held)
                    if not len(left):
                        return best
                    rows, held, hunted = rows[left], held.at(left), hunted.at(left)
                    walk, seen, part = take(walk, left), take(seen, left), at(model, rows)
            walk = advance(walk, seen, hunted)
        held = _last_look(part, walk.point, hunted, held, loss, wins=wins)
    return best.put(rows, held)


def look(model: Classifier, point: Tensor, quarry: Quarry, loss: Loss) -> Seen:
    """Return what the model and its gradient with respect to the points (B, *S) say there.

    Of several passes: the mean loss, its gradient, and whether all of them won.

    Raises:
        NotApplicable: the answers have no gradient with respect to the points.
    """
    if quarry.passes > 1:
        return _mean_look(model, point, quarry, loss)
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        logits = model(point)
        check_answers(logits, len(point))
        losses = loss(logits, quarry)
        if not losses.requires_grad:
            raise NotApplicable(
                "the model's answers have no gradient with respect to its inputs (detached, or "
                "computed outside torch); use an attack that needs scores or labels only"
            )
        (gradient,) = torch.autograd.grad(losses, point, torch.ones_like(losses))
    logits = logits.detach()
    reached = quarry.threat.reached(logits, quarry.y)
    return Seen(point.detach(), logits, losses.detach(), gradient, reached)


def take(state: Any, rows: Tensor) -> Any:
    """Return a dataclass of per-sample tensors (or of such) at the given rows; the rest stays."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    taken = {name: v[rows] for name, v in values.items() if isinstance(v, Tensor)}
    inner = {name: take(v, rows) for name, v in values.items() if is_dataclass(v)}
    return replace(state, **taken, **inner)


def _left(held: Best, seen: Seen) -> Tensor:
    left = held.open()
    if bool(seen.losses.isnan().any()):
        raise MethodFailed("the model answers NaN to allowed inputs; no attack can judge that")
    return left


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
    model: Classifier, point: Tensor, quarry: Quarry, held: Best, loss: Loss, *, wins: bool
) -> Best:
    with torch.no_grad():
        answers = [model(point) for _ in range(quarry.passes)]
        reached = torch.stack([quarry.threat.reached(said, quarry.y) for said in answers]).all(0)
        losses = torch.stack([loss(said, quarry) for said in answers]).mean(0)
        return held.or_better(point, losses, reached & wins)
