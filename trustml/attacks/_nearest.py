"""The loop that minimum-norm attacks share: look, keep the nearest point that wins, move on.

As in the pursuit within a ball, everything is arithmetic on each sample alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._flights import take
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier, Threat
from trustml.errors import MethodFailed
from trustml.geometry import distance, like
from trustml.threats import check_readable

# Steps between two looks at which samples may leave: each look reads the device.
_EVERY = 5


@dataclass(frozen=True, slots=True, eq=False)
class Nearest:
    """The nearest points (B, *S) that won; how far (B,) they are in float64, inf where none did.

    `last` (B,) is how far the point that was looked at last is, whether it won or not; `measure`
    (B,) is what a point is kept by, if that is not how far it is.
    """

    point: Tensor
    distance: Tensor
    last: Tensor | None = None
    measure: Tensor | None = None

    def or_nearer(self, point: Tensor, reached: Tensor, quarry: Quarry) -> "Nearest":
        """Return the nearest after one more point (B, *S), of which `reached` (B,) says who won."""
        last = distance(point, quarry.x, quarry.threat.norm)
        far = last.masked_fill(~reached, torch.inf)
        nearer = far < self.distance
        return Nearest(
            torch.where(like(nearer, point), point, self.point),
            torch.where(nearer, far, self.distance),
            last,
        )

    def open(self, threat: Threat, stop_inside: bool) -> Tensor:
        """Return the rows (B',) still to be gone on with; reads the device once.

        With `stop_inside` those are done whose nearest point is within epsilon.
        """
        enough = (
            threat.budget(self.point).flatten() if stop_inside else torch.zeros_like(self.distance)
        )
        # An infinite budget holds every point, but a sample without one is not done.
        return ((self.distance > enough) | self.distance.isinf()).nonzero()[:, 0]

    def at(self, rows: Tensor) -> "Nearest":
        """Return the nearest of the given rows."""
        last, measure = (None if t is None else t[rows] for t in (self.last, self.measure))
        return Nearest(self.point[rows], self.distance[rows], last, measure)

    def put(self, rows: Tensor, other: "Nearest") -> "Nearest":
        """Return this with the given rows replaced by `other`."""
        return Nearest(
            self.point.index_copy(0, rows, other.point),
            self.distance.index_copy(0, rows, other.distance),
        )


W = TypeVar("W")
See = Callable[[Classifier, W, Quarry], Seen]
Keep = Callable[[Nearest, Tensor, Tensor, Quarry], Nearest]


def at_home(model: Classifier, quarry: Quarry) -> Nearest:
    """Return the inputs, at distance 0 where the model already answers as the attacker wants."""
    with frozen(model), torch.no_grad():
        answers = model(quarry.x)
    check_readable(answers, quarry.y)
    reached = quarry.threat.reached(answers, quarry.y)
    far = torch.where(reached, 0.0, torch.inf).double()
    return Nearest(quarry.x, far)


def close_in(
    model: Classifier,
    quarry: Quarry,
    nearest: Nearest,
    /,
    *,
    begin: Callable[[Quarry, Nearest], W],
    see: See[W],
    advance: Callable[[W, Seen, Quarry, Nearest], W],
    steps: int,
    stop_inside: bool = False,
    every: int = _EVERY,
    keep: Keep = Nearest.or_nearer,
) -> Nearest:
    """Return the nearest after a walk of `steps` looks for each sample that is not done yet.

    Args:
        model: what is asked.
        quarry: the samples.
        nearest: what is known before the walk.
        begin: gives where the walk starts: a frozen dataclass whose tensors have one row a sample.
        see: asks the model what it says where the walk stands.
        advance: gives the walk one step further; it is not called after the last look.
        steps: looks for each sample.
        stop_inside: go no further with a sample whose nearest point is within epsilon.
        every: looks between two at which samples may leave: 1 where a look takes many passes.
        keep: gives what is kept after one more point: by the norm, or by another measure.

    Raises:
        NotApplicable: the model's answers have no gradient with respect to the inputs.
        MethodFailed: the model answers NaN.
    """
    rows = nearest.open(quarry.threat, stop_inside)
    if not len(rows):
        return nearest
    hunted, held, part = quarry.at(rows), nearest.at(rows), at(model, rows)
    broken = torch.zeros((), dtype=torch.bool, device=quarry.x.device)
    with frozen(model):
        walk = begin(hunted, held)
        for step in range(steps):
            seen = see(part, walk, hunted)
            held = keep(held, seen.point, seen.reached, hunted)
            broken = broken | seen.losses.isnan().any()
            if step == steps - 1:
                break
            if stop_inside and step % every == 0:
                left = held.open(hunted.threat, stop_inside)
                if len(left) < len(rows):
                    nearest = nearest.put(rows, held)
                    rows, held, hunted = rows[left], held.at(left), hunted.at(left)
                    walk, seen, part = take(walk, left), take(seen, left), at(model, rows)
                if not len(left):
                    break
            walk = advance(walk, seen, hunted, held)
    if bool(broken):
        raise MethodFailed("the model answers NaN to allowed inputs; no attack can judge that")
    return nearest.put(rows, held)


def answer(nearest: Nearest, quarry: Quarry) -> Tensor:
    """Return the nearest points (B, *S) that won, pulled into the ball where they lie outside."""
    return quarry.threat.project(nearest.point, quarry.x)


def drawn_in(
    model: Classifier,
    quarry: Quarry,
    nearest: Nearest,
    looks: int = 8,
    *,
    stop_inside: bool = False,
) -> Nearest:
    """Return the nearest after `looks` halvings of the way from x to each, towards the border."""
    rows = nearest.open(quarry.threat, stop_inside)
    rows = rows[nearest.distance[rows] < torch.inf]
    if not len(rows):
        return nearest
    hunted, held, part = quarry.at(rows), nearest.at(rows), at(model, rows)
    far = held.point
    outer = torch.ones_like(held.distance)
    inner = torch.zeros_like(outer)
    with frozen(model), torch.no_grad():
        for _ in range(looks):
            middle = (inner + outer) / 2
            point = hunted.x + like(middle.to(far.dtype), far) * (far - hunted.x)
            point = point.clamp(hunted.threat.low, hunted.threat.high)
            reached = hunted.threat.reached(part(point), hunted.y)
            held = held.or_nearer(point, reached, hunted)
            outer, inner = torch.where(reached, middle, outer), torch.where(reached, inner, middle)
    return nearest.put(rows, held)
