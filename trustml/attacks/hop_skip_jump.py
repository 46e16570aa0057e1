"""HopSkipJump: along the border between the classes, by its normal as labels around it show it."""

import math
from dataclasses import dataclass
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle, Trail, begin, bisected, still_on
from trustml.attacks._directions import Directions
from trustml.attacks._flights import take
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import distance, like
from trustml.registry import attack

# Labels are read this share of the distance away from the border; the first time, of the box.
_RADIUS, _FIRST_RADIUS = 0.03, 0.1
# How often a jump is halved before the sample stays where it is.
_HALVINGS = 10
# A normal of fewer labels is not worth its jump.
_FEWEST = 5
# Points in one call of the model.
_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Walk:
    """What the steps of a walk need to know: the threat, how it goes on, and what that costs."""

    threat: Threat
    arc: bool
    bisections: int
    evaluations: int
    memory: float

    @property
    def cost(self) -> int:
        """Queries at most that a move takes once the normal is known."""
        return self.bisections if self.arc else self.bisections + _HALVINGS


@attack(
    source="Chen, Jordan & Wainwright 2020, arXiv:1904.02144; Reza et al. 2023, arXiv:2308.03163",
    needs=Access.LABELS,
    norms=("l2", "linf"),
    minimum_norm=True,
)
def hop_skip_jump(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 2000,
    evaluations: int = 20,
    memory: float = 0.9,
    path: Literal["arc", "jump"] = "arc",
    stop_inside: bool = False,
) -> Tensor:
    """Return the nearest misread points (B, *S) that were met on walks along the border.

    A sample without a start, because no point tried was misread, stays where it is. The settings
    of the paper that gave the name are evaluations=100, memory=0 and path=jump.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        evaluations: labels read for the first normal; the t-th takes √t times as many.
        memory: share of what earlier labels said that goes into the next normal.
        path: how a move goes on from the normal. "jump": along it, and straight back to the border.
            "arc", in L2: along the circle whose diameter is the way to x; where that meets a flat
            border, no point of the circle's plane is nearer (the second source).
        stop_inside: go no further with a sample whose nearest point is within epsilon.

    Raises:
        BadOption: a count below 1, or a memory that is not in [0, 1].
    """
    _check(queries, evaluations, memory)
    bisections = _bisections(x[0].numel(), threat.norm)
    walk = Walk(threat, path == "arc" and threat.norm == "l2", bisections, evaluations, memory)
    goal = threat if stop_inside else None
    oracle, result = Oracle(model, y, threat, queries), x.clone()
    with frozen(model), torch.no_grad():
        trail = begin(oracle, x, threat, random)
        trail = take(trail, still_on(trail, goal, result, oracle.left[trail.rows] < bisections))
        trail = _to_border(oracle, trail, trail.point, walk)
        normal = torch.zeros_like(trail.x)
        for turn in count(1):
            spare = oracle.left[trail.rows] - walk.cost
            left = still_on(trail, goal, result, spare < _FEWEST)
            if not len(left):
                break
            trail, normal, spare = take(trail, left), normal[left], spare[left]
            numbers = spare.clamp(max=round(evaluations * math.sqrt(turn)))
            normal = memory * normal + _normal(oracle, trail, walk, numbers, random, turn)
            trail = (_along_arc if walk.arc else _jump)(oracle, trail, walk, normal, turn)
    return threat.project(result, x)


def _normal(
    oracle: Oracle, trail: Trail, walk: Walk, numbers: Tensor, random: Random, turn: int
) -> Tensor:
    """Return normals (B, *S) of the border, to the misread side, from `numbers` (B,) labels."""
    flat, threat = trail.point.flatten(1), walk.threat
    directions = Directions(flat.shape[1], flat.device)
    radius = _radius(trail, walk, turn)[:, None]
    most = int(numbers.max())
    places = directions.draw(random.at(trail.rows), most, "directions", turn)
    # Σ label · move, Σ move and Σ label, one direction after the other: the same in every batch.
    sums = torch.zeros_like(flat), torch.zeros_like(flat), torch.zeros_like(radius)
    done = 0
    while done < most:
        live = (numbers > done).nonzero()[:, 0]
        times = min(int(numbers[live].min()) - done, max(_AT_ONCE // len(live), 1))
        here = flat[live]
        vectors = directions.at(places[live, done : done + times].T.flatten()).to(flat.dtype)
        points = here + vectors.view(times, *here.shape) * radius[live]
        points = points.clamp(threat.low, threat.high)
        won = oracle(points.view(-1, *trail.x.shape[1:]), trail.rows[live])
        labels = won.view(times, -1, 1).to(flat.dtype) * 2 - 1
        signed, plain, total = (part[live] for part in sums)
        for move, label in zip(points - here, labels, strict=True):
            signed += move * label
            plain += move
            total += label
        for part, now in zip(sums, (signed, plain, total), strict=True):
            part[live] = now
        done += times
    signed, plain, total = sums
    mean = total / numbers[:, None]
    # Where all labels agree, the mean move is all that they say.
    normal = torch.where(mean.abs() == 1, mean * plain, signed - mean * plain)
    return (normal / radius).view_as(trail.x)


def _radius(trail: Trail, walk: Walk, turn: int) -> Tensor:
    """Return how far from the border labels are read (B,)."""
    if turn == 1:
        width = walk.threat.high - walk.threat.low
        return torch.full_like(trail.x.flatten(1)[:, 0], _FIRST_RADIUS * width)
    return (_RADIUS * distance(trail.point, trail.x, walk.threat.norm)).to(trail.x.dtype)


def _jump(oracle: Oracle, trail: Trail, walk: Walk, normal: Tensor, turn: int) -> Trail:
    """Return the trail after a jump along the normal, halved until it ends misread, and back."""
    point, threat = trail.point, walk.threat
    unit = normal.sign() if threat.norm == "linf" else _unit(normal.flatten(1)).view_as(point)
    length = distance(point, trail.x, threat.norm) / math.sqrt(turn)
    moved, rest = point.clone(), torch.arange(len(point), device=point.device)
    for _ in range(_HALVINGS):
        tried = point[rest] + (unit[rest] * like(length[rest], point)).to(point.dtype)
        tried = tried.clamp(threat.low, threat.high)
        won = oracle(tried, trail.rows[rest])
        moved[rest[won]] = tried[won]
        rest, length = rest[~won], length / 2
        if not len(rest):
            break
    return _to_border(oracle, trail, moved, walk)


def _to_border(oracle: Oracle, trail: Trail, far: Tensor, walk: Walk) -> Trail:
    """Return the trail at the border on the ways from x to `far`."""
    if not len(trail.rows):
        return trail
    norm = walk.threat.norm
    return trail.to(bisected(oracle, trail.rows, trail.x, far, norm, walk.bisections), norm)


def _along_arc(oracle: Oracle, trail: Trail, walk: Walk, normal: Tensor, turn: int) -> Trail:
    """Return the trail where arcs from the points to x, bent to the normal, cross the border."""
    start = trail.x.double().flatten(1)
    back = trail.point.double().flatten(1) - start
    size = back.square().sum(1, keepdim=True).sqrt()
    outward, normal = back / size, normal.double().flatten(1)
    aside = _unit(normal - (normal * outward).sum(1, keepdim=True) * outward)
    misread, right = torch.zeros_like(size), torch.full_like(size, torch.pi / 2)
    held = trail.point
    for _ in range(walk.bisections):
        angle = (misread + right) / 2
        tried = start + size * angle.cos() * (outward * angle.cos() + aside * angle.sin())
        tried = tried.to(held.dtype).view_as(held).clamp(walk.threat.low, walk.threat.high)
        won = oracle(tried, trail.rows)
        held = torch.where(like(won, held), tried, held)
        misread, right = (
            torch.where(won[:, None], angle, misread), torch.where(won[:, None], right, angle)
        )  # fmt: skip
    return trail.to(held, walk.threat.norm)


def _unit(vectors: Tensor) -> Tensor:
    """Return vectors (B, D) in float64 with norm 1, or 0 where they are 0."""
    size = vectors.double().square().sum(1, keepdim=True).sqrt()
    return vectors / size.clamp_min(torch.finfo(torch.float64).tiny)


def _bisections(entries: int, norm: str) -> int:
    """Return how often a way is halved: to be nearer to the border than labels are read from it.

    A random direction has the share 1/√D of its length along the normal; in Linf all entries move.
    """
    return math.ceil(math.log2((entries if norm == "linf" else math.sqrt(entries)) / _RADIUS))


def _check(queries: int, evaluations: int, memory: float) -> None:
    if min(queries, evaluations) < 1:
        raise BadOption(
            f"hop_skip_jump: queries={queries} and evaluations={evaluations} must be 1 or more"
        )
    if not 0 <= memory <= 1:
        raise BadOption(f"hop_skip_jump: memory={memory} must be in [0, 1]")
