"""Where a network of one ReLU layer bends along a line, in about two queries a bend.

The answers along a line are K piecewise linear functions that all bend at the same places. Between
two known pieces there is just one bend if all K pairs of lines meet at one place: K − 1 equations
that chance does not satisfy, so most bends are certain without a query at the bend.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.errors import NotApplicable

# How many estimated roundings an equation may be off; more is a bend.
TOLERANCE = 20.0
# Distance of the two queries that give a slope, as a share of the interval they stand in.
SLOPE_STEP = 1e-3
END_STEP = 0.1
NARROWEST = 1e-11
# Once so many bends are found, a line is taken for a curve if half of them lie closer than this in
# angle (as seen from `scale` away), or bend nearly the same way as the one before.
MANY, CLOSE, ALIKE = 50, 1e-4, 0.99
MOST_UNRESOLVED = 10
# Two bends closer than this share of their interval may be taken for one where answers are rough.
APART = 0.01
# With fewer independent answers one or two bends can look like another; then the place is asked.
CERTAIN = 3


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A straight piece: value (K,) at t, slope (K,), and how far off each may be by rounding."""

    t: float
    value: Tensor
    slope: Tensor
    value_doubt: float
    slope_doubt: float

    def at(self, t: float) -> Tensor:
        """Return the value (K,) of the straight line at t."""
        return self.value + self.slope * (t - self.t)

    def doubt(self, t: float) -> float:
        """Return how far off the value at t may be."""
        return self.value_doubt + self.slope_doubt * abs(t - self.t)


@dataclass(frozen=True, slots=True, eq=False)
class Bends:
    """Bends of a line in order: places (h,), slope jumps (h, K), the h + 1 pieces between them.

    `unresolved` counts spots where bends lie too close together to be told apart.
    """

    places: Tensor
    jumps: Tensor
    pieces: tuple[Piece, ...]
    unresolved: int


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """What can be asked along a line: t → answers (K,), how far off an answer may be, its ends.

    Args:
        scale: where bends are dense; beyond it they thin out as 1/t².
        step: distance of the two queries for a slope, as a share of their interval.
    """

    ask: Callable[[float], Tensor]
    noise: Callable[[Tensor], float]
    low: float
    high: float
    scale: float
    step: float = SLOPE_STEP

    def between(self, a: float, b: float) -> float:
        """Return the place with equally many bends to be expected on both sides."""
        middle = (math.atan(a / self.scale) + math.atan(b / self.scale)) / 2
        place = self.scale * math.tan(middle)
        return place if a < place < b else (a + b) / 2

    def piece(self, t: float, a: float, b: float, value: Tensor | None = None) -> Piece:
        """Return the piece around t, from a query at t and one beside it towards the middle."""
        share = self.step * (math.atan(b / self.scale) - math.atan(a / self.scale))
        if t in (a, b):  # a slope taken across a bend at an end would not be noticed
            share *= END_STEP
        step = min(share * self.scale * (1 + (t / self.scale) ** 2), (b - a) / 2)
        if abs(t) > self.scale:
            step = min(step, abs(t) / 2)
        step = -step if t + step > b else step
        value = self.ask(t) if value is None else value
        other = self.ask(t + step)
        doubt, other_doubt = self.noise(value), self.noise(other)
        slope = (other - value) / step
        return Piece(t, value, slope, doubt, (doubt + other_doubt) / abs(step))


def find_bends(line: Line) -> Bends:
    """Return all bends between the line's ends.

    Raises:
        BudgetSpent: from the victim.
        NotApplicable: the answers are not piecewise straight.
    """
    found = _Found([], [], [], 0)
    first = line.piece(line.low, line.low, line.high)
    last = line.piece(line.high, line.low, line.high)
    waiting = [(line.low, first, line.high, last)]
    while waiting:  # leftmost first, so that bends and pieces come in order
        a, left, b, right = waiting.pop()
        if _one_or_none(line, found, a, left, b, right):
            continue
        if _too_narrow(line, a, b):
            found.bend(((a + b) / 2), right.slope - left.slope, left)
            found.unresolved += 1
            continue
        waiting += reversed(_split(line, found, a, left, b, right))
        found.refuse_curves(line.scale)
    found.pieces.append(last)
    if len(last.value) >= CERTAIN:
        found.join()
    empty = last.value.new_zeros(0, len(last.value))
    jumps = torch.stack(found.jumps) if found.jumps else empty
    places = torch.tensor(found.places, dtype=torch.float64)
    return Bends(places, jumps, tuple(found.pieces), found.unresolved)


@dataclass(slots=True, eq=False)
class _Found:
    """Bends so far; `pieces` holds the piece before each."""

    places: list[float]
    jumps: list[Tensor]
    pieces: list[Piece]
    unresolved: int

    def bend(self, place: float, jump: Tensor, before: Piece) -> None:
        self.places.append(place)
        self.jumps.append(jump)
        self.pieces.append(before)

    def refuse_curves(self, scale: float) -> None:
        """Return quietly unless the line is curved: it then falls into ever smaller pieces."""
        curved = self.unresolved > MOST_UNRESOLVED
        if len(self.places) >= MANY:
            angles = (torch.tensor(self.places[:MANY], dtype=torch.float64) / scale).atan()
            jumps = torch.stack(self.jumps[:MANY])
            alike = torch.cosine_similarity(jumps[1:], jumps[:-1]).median()
            curved |= float(angles.diff().median()) < CLOSE
            curved |= jumps.shape[1] >= CERTAIN and float(alike) > ALIKE
        if curved:
            raise NotApplicable(
                "the answers bend everywhere along a line: no network of ReLU units answers like "
                "this, or they are noisier than their precision says"
            )

    def join(self) -> None:
        """Make one of two bends that a slope taken across one bend has made of it."""
        k = 0
        while k + 1 < len(self.places):
            left, right = self.pieces[k], self.pieces[k + 2]
            place = _meeting(left, right, self.places[k], self.places[k + 1])
            if place is None:
                k += 1
                continue
            self.places[k : k + 2] = [place]
            self.jumps[k : k + 2] = [right.slope - left.slope]
            del self.pieces[k + 1]
            k = max(k - 1, 0)


def _one_or_none(line: Line, found: _Found, a: float, left: Piece, b: float, right: Piece) -> bool:
    """Return whether [a, b] holds no bend, or one, which is then noted."""
    if _same(left, right, a) and _same(left, right, b):
        return True
    place = _meeting(left, right, a, b)
    if place is None or _vague(line, a, left, b, right, place):
        return False
    if len(left.value) < CERTAIN:
        beside = min(line.step * (line.scale + abs(place)), (place - a) / 2, (b - place) / 2)
        if not _on(line, left, place - beside) or not _on(line, right, place + beside):
            return False
    found.bend(place, right.slope - left.slope, left)
    return True


def _meeting(left: Piece, right: Piece, a: float, b: float) -> float | None:
    """Return the one place in [a, b] where all K pairs of lines meet, if there is one."""
    turn = right.slope - left.slope
    square = float(turn @ turn)
    if square == 0:
        return None
    middle = (a + b) / 2
    place = middle - float(turn @ (right.at(middle) - left.at(middle))) / square
    return place if a <= place <= b and _same(left, right, place) else None


def _vague(line: Line, a: float, left: Piece, b: float, right: Piece, place: float) -> bool:
    """Return whether rounding could hide two bends well apart, and a further query may tell."""
    doubt = TOLERANCE * (left.doubt(place) + right.doubt(place))
    turn = float((right.slope - left.slope).abs().max())
    return doubt > APART * turn * (b - a) and b - a > APART * (line.scale + abs(a) + abs(b))


def _on(line: Line, piece: Piece, t: float) -> bool:
    value = line.ask(t)
    off = float((value - piece.at(t)).abs().max())
    return off <= TOLERANCE * (piece.doubt(t) + line.noise(value))


def _split(
    line: Line, found: _Found, a: float, left: Piece, b: float, right: Piece
) -> list[tuple[float, Piece, float, Piece]]:
    """Ask in the middle; return the parts of [a, b] that still may hold bends, in order."""
    t = line.between(a, b)
    value = line.ask(t)
    noise = line.noise(value)
    if float((value - left.at(t)).abs().max()) <= TOLERANCE * (left.doubt(t) + noise):
        return [(t, _longer(left, t, value, noise), b, right)]
    if float((value - right.at(t)).abs().max()) <= TOLERANCE * (right.doubt(t) + noise):
        return [(a, left, t, _longer(right, t, value, noise))]
    if _two(line, found, (a, left, b, right), t, value):
        return []
    piece = line.piece(t, a, b, value)
    return [(a, left, t, piece), (t, piece, b, right)]


def _two(
    line: Line,
    found: _Found,
    interval: tuple[float, Piece, float, Piece],
    t: float,
    value: Tensor,
) -> bool:
    """Return whether [a, b] holds one bend on each side of t, which are then noted.

    Then the left jump is along value − left(t), the right one along value − right(t), and
    they add up to the turn: K equations for the two distances.
    """
    a, left, b, right = interval
    if len(value) <= CERTAIN:
        return False
    turn, noise = right.slope - left.slope, line.noise(value)
    sides = torch.stack([value - left.at(t), value - right.at(t)], dim=1)
    inverse = torch.linalg.lstsq(sides, turn[:, None]).solution[:, 0]
    if not bool((inverse > 0).all()):
        return False
    first, second = t - 1 / float(inverse[0]), t + 1 / float(inverse[1])
    doubt = left.slope_doubt + right.slope_doubt
    doubt += float(inverse[0]) * (left.doubt(t) + noise)
    doubt += float(inverse[1]) * (right.doubt(t) + noise)
    off = float((sides @ inverse - turn).abs().max())
    # Where rounding could hide a third bend, nothing is concluded.
    vague = TOLERANCE * doubt > 0.05 * float(turn.abs().max())
    if off > TOLERANCE * doubt or vague or not (a <= first and second <= b):
        return False
    jump = sides[:, 0] * inverse[0]
    slope = left.slope + jump
    slope_doubt = left.slope_doubt + float(inverse[0]) * (left.doubt(t) + noise)
    found.bend(first, jump, left)
    found.bend(second, turn - jump, Piece(t, value, slope, noise, slope_doubt))
    return True


def _longer(piece: Piece, t: float, value: Tensor, noise: float) -> Piece:
    """Return the piece with its slope taken over the longer way to (t, value)."""
    way = t - piece.t
    slope_doubt = (piece.value_doubt + noise) / abs(way)
    if slope_doubt > piece.slope_doubt:
        return Piece(t, value, piece.slope, noise, piece.slope_doubt)
    return Piece(t, value, (value - piece.value) / way, noise, slope_doubt)


def _same(left: Piece, right: Piece, t: float) -> bool:
    off = float((left.at(t) - right.at(t)).abs().max())
    return off <= TOLERANCE * (left.doubt(t) + right.doubt(t))


def _too_narrow(line: Line, a: float, b: float) -> bool:
    return b - a <= NARROWEST * (line.scale + abs(a) + abs(b))
