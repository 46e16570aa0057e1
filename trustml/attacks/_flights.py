"""Flights: samples that walk side by side, regrouped into full blocks as the caught ones leave."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from trustml.access import Handed

# Samples side by side: where the arithmetic of a step stays in a processor's cache, on a CPU.
_CPU_ROWS, _GPU_ROWS = 256, 4096
# Won samples leave when the model is then fed no more than this share of the rows.
_WORTH = 7 / 8
# The first steps catch most of what can be caught at all; later a look every few is enough.
_EARLY, _EVERY = 4, 5
# Steps after which flights that have become few are put together.
_MEET = (2, 4, 6, 11, 21, 41, 81)


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """Samples `rows` (B,) of the quarry: their best points so far, and where their walks stand.

    Those at `left` (all, where it is None) are not won yet; the others fill up the model's blocks.
    """

    rows: Tensor
    held: Any
    walk: Any
    left: Tensor | None = None

    def __len__(self) -> int:
        """Return how many samples are not won yet."""
        return len(self.rows if self.left is None else self.left)


def room(model: object, x: Tensor) -> int:
    """Return how many samples walk side by side; all, for a model that is not fed in blocks."""
    if not isinstance(model, Handed):
        return max(len(x), 1)
    usual = _CPU_ROWS if x.device.type == "cpu" else _GPU_ROWS
    return max(usual, *model.cut(x))


def legs(steps: int) -> list[range]:
    """Return the steps of a walk, cut where flights may be put together."""
    edges = [0, *(edge for edge in _MEET if edge < steps), steps]
    return [range(first, last) for first, last in pairwise(edges)]


def checkpoint(step: int) -> bool:
    """Return whether samples that are won may leave after the look of that number."""
    return step < _EARLY or step % _EVERY == 0


def regrouped(flights: Sequence[Flight], most: int) -> list[Flight]:
    """Return the flights as few as they can be, of up to `most` samples each."""
    flights = [flight for flight in flights if len(flight)]
    needed = -(-sum(len(flight) for flight in flights) // most)
    if needed == len(flights):
        return flights
    flights = [_alone(flight) for flight in flights]
    rows = torch.cat([flight.rows for flight in flights])
    held, walk = (
        joined([getattr(flight, name) for flight in flights]) for name in ("held", "walk")
    )
    places = torch.arange(len(rows), device=rows.device).split(most)
    return [Flight(rows[some], take(held, some), take(walk, some)) for some in places]


def kept(model: object, left: Tensor, won: Tensor) -> Tensor:
    """Return the rows (B',) of a flight that go on: those `left`, and others to fill up blocks.

    All of them, where without some the model would be fed about as many rows: to leave is work,
    too. One that is not fed in blocks is rid of all that are won (B,).
    """
    if not isinstance(model, Handed) or not len(left):
        return left
    # One block more costs a small model more than rows do.
    fed, now = (model.filling(len(some), won.device) for some in (left, won))
    if fed > _WORTH * now:
        return torch.arange(len(won), device=won.device)
    return won.byte().argsort(stable=True)[:fed]


def _alone(flight: Flight) -> Flight:
    """Return the flight without those who are won."""
    if flight.left is None:
        return flight
    held, walk = take(flight.held, flight.left), take(flight.walk, flight.left)
    return Flight(flight.rows[flight.left], held, walk)


def joined(states: Sequence[Any]) -> Any:
    """Return dataclasses of per-sample tensors (or of such) as one; the rest is the first's."""
    first = states[0]
    parts = {field.name: [getattr(s, field.name) for s in states] for field in fields(first)}
    tensors = {name: torch.cat(v) for name, v in parts.items() if isinstance(v[0], Tensor)}
    inner = {name: joined(v) for name, v in parts.items() if is_dataclass(v[0])}
    return replace(first, **tensors, **inner)


def take(state: Any, rows: Tensor) -> Any:
    """Return a dataclass of per-sample tensors (or of such) at the given rows; the rest stays."""
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    taken = {name: v[rows] for name, v in values.items() if isinstance(v, Tensor)}
    inner = {name: take(v, rows) for name, v in values.items() if is_dataclass(v)}
    return replace(state, **taken, **inner)
