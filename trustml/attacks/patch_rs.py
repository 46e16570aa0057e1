"""Patch-RS: a random search over what a patch shows, where it is, and how long and high."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._flights import take
from trustml.attacks._judge import Judge, check_counts
from trustml.attacks._losses import LossName
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.measures.patch import pixels
from trustml.registry import attack

# From which of 10 000 queries on the painted share is halved once more, as in Square.
_HALVED = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@dataclass(frozen=True, slots=True, eq=False)
class Hunt:
    """Samples `rows` (B,) behind patches of `sides` (B, 2) pixels at `corner` (B, 2), and the loss.

    A patch has at most `area` (B,) pixels. What it shows is the first rows and columns of `shown`
    (B, C, H, W).
    """

    rows: Tensor
    x: Tensor
    area: Tensor
    shown: Tensor
    corner: Tensor
    sides: Tensor
    loss: Tensor

    @property
    def point(self) -> Tensor:
        """Return the images (B, C, H, W) behind their patches."""
        places, inside = [], []
        for axis in (0, 1):
            count = self.x.shape[2 + axis]
            place = torch.arange(count, device=self.x.device) - self.corner[:, axis, None]
            inside.append((place >= 0) & (place < self.sides[:, axis, None]))
            places.append(place.clamp(min=0))
        each = torch.arange(len(self.x), device=self.x.device)[:, None, None]
        there = self.shown.movedim(1, -1)[each, places[0][:, :, None], places[1][:, None]]
        covered = inside[0][:, :, None] & inside[1][:, None]
        return there.movedim(-1, 1).where(covered[:, None], self.x)


@attack(
    source="Croce et al. 2022, arXiv:2006.12834, section 5",
    needs=Access.PROBABILITIES,
    norms=("patch",),
)
def patch_rs(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    painted: float = 0.4,
    moves: int = 4,
    loss: LossName = "margin",
) -> Tensor:
    """Return images (B, C, H, W) behind the rectangular patch of the highest loss that was met.

    Most queries paint a part of the patch in one random colour, smaller and smaller; every
    `moves`-th moves the patch, less and less far. The paper's are squares: here half of the moves
    also make the patch a pixel higher or lower, and as long as its area then allows.

    Args:
        model: gives probabilities or logits.
        x: images (B, C, H, W) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the share of the area, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        painted: share of the patch that is painted at once, before it falls.
        moves: one query in so many moves the patch.
        loss: what is climbed.

    Raises:
        BadOption: a count below 1, or a share that is not in (0, 1].
        MethodFailed: the model answers NaN.
    """
    check_counts("patch_rs", queries=queries, moves=moves)
    if not 0 < painted <= 1:
        raise BadOption(f"patch_rs: painted={painted} must be above 0 and at most 1")
    with frozen(model), torch.no_grad():
        judge, step = Judge(model, x, y, threat, queries, loss), 0
        hunt = _start(x, threat, random)
        while len(left := judge.going(hunt.rows, 1)):
            if len(left) < len(hunt.rows):
                hunt = take(hunt, left)
            tried = hunt
            if step and step % moves == 0:
                tried = _moved(hunt, random.at(hunt.rows), 1 - step / queries, step)
            elif step:
                share = painted / 2 ** sum(10_000 * step > first * queries for first in _HALVED)
                tried = _painted(hunt, random.at(hunt.rows), share, threat, step)
            losses = judge(tried.point, hunt.rows)[0]
            better = losses >= hunt.loss
            hunt = replace(
                hunt,
                shown=tried.shown.where(better[:, None, None, None], hunt.shown),
                corner=tried.corner.where(better[:, None], hunt.corner),
                sides=tried.sides.where(better[:, None], hunt.sides),
                loss=losses.where(better, hunt.loss),
            )
            step += 1
    return threat.project(judge.best, x)


def _start(x: Tensor, threat: Threat, random: Random) -> Hunt:
    """Return patches of one random colour a pixel, about as high as long, at random places."""
    area = pixels(threat.budget(x), x)
    sides = _sides(area.double().sqrt().floor().long(), area, x)
    colours = random.uniform(tuple(x.shape[1:]), "colour") < 0.5
    low, high = (float(value) for value in x.new_tensor([threat.low, threat.high]))
    shown = torch.where(colours, low, high).to(x.dtype)
    rows, lowest = torch.arange(len(x), device=x.device), torch.full_like(x[:, 0, 0, 0], -torch.inf)
    corner = (random.uniform((2,), "corner") * (_room(x, sides) + 1)).long()
    return Hunt(rows, x, area, shown, corner, sides, lowest)


def _sides(height: Tensor, area: Tensor, x: Tensor) -> Tensor:
    """Return height and length (B, 2) of patches about so high, as long as the area allows."""
    height = torch.minimum(height, area).clamp(1, x.shape[2])
    return torch.stack([height, (area // height).clamp(max=x.shape[3])], 1)


def _room(x: Tensor, sides: Tensor) -> Tensor:
    """Return the last rows and columns (B, 2) at which a patch may begin."""
    return torch.tensor(x.shape[2:], device=x.device) - sides


def _moved(hunt: Hunt, random: Random, far: float, step: int) -> Hunt:
    """Return the hunts with their patches up to `far` image sides away, half of them reshaped."""
    taller = 2 * random.integers(2, (), "taller", step) - 1
    taller = torch.where(random.uniform((), "reshaped", step) < 0.5, taller, 0)
    sides = _sides(hunt.sides[:, 0] + taller, hunt.area, hunt.x)
    reach = torch.tensor(hunt.x.shape[2:], device=hunt.x.device) * far
    way = (2 * random.uniform((2,), "way", step) - 1) * reach.clamp_min(1)
    corner = (hunt.corner + way.round().long()).clamp_min(0)
    return replace(hunt, sides=sides, corner=torch.minimum(corner, _room(hunt.x, sides)))


def _painted(hunt: Hunt, random: Random, share: float, threat: Threat, step: int) -> Hunt:
    """Return the hunts with `share` of each patch in one colour: a wall of the box a channel."""
    sides = (share**0.5 * hunt.sides).round().long().clamp_min(1)
    first = (random.uniform((2,), "part", step) * (hunt.sides - sides + 1)).long()
    down, across = (
        (place >= first[:, axis, None]) & (place < (first + sides)[:, axis, None])
        for axis in (0, 1)
        for place in (torch.arange(hunt.shown.shape[2 + axis], device=hunt.x.device),)
    )
    up = random.uniform((hunt.x.shape[1], 1, 1), "paint", step) < 0.5
    colour = torch.where(up, threat.high, threat.low).to(hunt.shown.dtype)
    part = (down[:, :, None] & across[:, None])[:, None]
    return replace(hunt, shown=colour.where(part, hunt.shown))
