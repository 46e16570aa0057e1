"""SimBA: one step at a time along random orthogonal directions, kept where the loss rises."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from trustml.access import at, frozen
from trustml.attacks._answers import scored, still_open
from trustml.attacks._flights import take
from trustml.attacks._losses import LossName
from trustml.attacks._windows import Plane, plane_of
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like, pull
from trustml.registry import attack

# Won samples leave after each of the first queries, then after every few.
_EARLY, _EVERY = 8, 8
# Waves come by so many rings of frequencies, as the authors' program widens its block.
_RINGS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Hunt:
    """Samples that are still searched: where each stands, its loss, and which direction is next.

    `order` (B, M) are the directions in each sample's own order, `turn` (B,) counts the ones that
    are done, `sign` (B,) is the way that is tried next.
    """

    rows: Tensor
    x: Tensor
    y: Tensor
    epsilon: Tensor
    point: Tensor
    loss: Tensor
    order: Tensor
    turn: Tensor
    sign: Tensor


@attack(
    source="Guo et al. 2019, arXiv:1905.07121",
    needs=Access.PROBABILITIES,
    norms=("l2", "linf"),
)
def simba(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    step: float = 0.2,
    basis: Literal["pixel", "dct"] = "pixel",
    lowest: float = 1.0,
    loss: LossName = "margin",
) -> Tensor:
    """Return the points (B, *S) of the highest loss on walks along single entries or waves.

    Each query tries one step along the next direction, or back along it where that did not help.
    A step that would leave the ball is pulled back into it. Entries come in a random order, waves
    by eighths of the frequencies, the lowest first.

    Args:
        model: gives probabilities or logits.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        step: length of a step, in the data's units.
        basis: "pixel" for single entries, "dct" for cosine waves over rows and columns.
        lowest: share of the frequencies of each axis that waves are taken from, the lowest first.
        loss: what is climbed.

    Raises:
        BadOption: no queries, a step that is not above 0, a share that is not in (0, 1].
        MethodFailed: the model answers NaN.
    """
    _check(queries, step, lowest)
    basis_of = Basis(plane_of(x.shape[1:]), basis == "dct", lowest)
    with frozen(model), torch.no_grad():
        result, part = x.clone(), model
        hunt = _begin(x, y, threat, random, basis_of)
        # A budget of 0 leaves nothing to look for.
        losses = scored(model, x, y, threat, loss).masked_fill(hunt.epsilon == 0, torch.inf)
        hunt = replace(hunt, loss=losses)
        for query in range(1, queries):
            if query <= _EARLY or query % _EVERY == 0:
                left = still_open(hunt.loss)
                if len(left) < len(hunt.rows):
                    result[hunt.rows] = hunt.point
                    hunt = take(hunt, left)
                    part = at(model, hunt.rows)
                if not len(left):
                    break
            moved = _moved(hunt, basis_of, step, threat)
            hunt = _stepped(hunt, moved, scored(part, moved, hunt.y, threat, loss))
        result[hunt.rows] = hunt.point
    return threat.project(result, x)


@dataclass(frozen=True, slots=True)
class Basis:
    """Orthonormal directions of a plane: single entries, or cosine waves of low frequency."""

    plane: Plane
    waves: bool
    lowest: float

    @property
    def sides(self) -> tuple[int, int]:
        """How many directions there are over rows and over columns."""
        sides = self.plane.rows, self.plane.columns
        if not self.waves:
            return sides
        return max(round(self.lowest * sides[0]), 1), max(round(self.lowest * sides[1]), 1)

    @property
    def count(self) -> int:
        """How many directions there are."""
        return self.plane.channels * self.sides[0] * self.sides[1]

    def rings(self, device: torch.device) -> Tensor:
        """Return in which eighth (M,) of the frequencies each wave lies: 0 for every single entry.

        The lowest eighth of both axes comes first, as what networks heed most.
        """
        numbers = torch.arange(self.count, device=device)
        if not self.waves:
            return torch.zeros_like(numbers)
        row, column = numbers // self.sides[1] % self.sides[0], numbers % self.sides[1]
        return torch.maximum(row * _RINGS // self.plane.rows, column * _RINGS // self.plane.columns)

    def at(self, numbers: Tensor) -> Tensor:
        """Return the directions (B, C, H, W) of these numbers (B,)."""
        place, column = numbers // self.sides[1], numbers % self.sides[1]
        channel, row = place // self.sides[0], place % self.sides[0]
        part = _wave if self.waves else _one_hot
        picture = part(self.plane.rows, row)[:, :, None] * part(self.plane.columns, column)[:, None]
        return _one_hot(self.plane.channels, channel)[:, :, None, None] * picture[:, None]


def _begin(x: Tensor, y: Tensor, threat: Threat, random: Random, basis: Basis) -> Hunt:
    epsilon = threat.budget(x).expand(len(x), *[1] * (x.dim() - 1)).flatten()
    return Hunt(
        rows=torch.arange(len(x), device=x.device),
        x=x,
        y=y,
        epsilon=epsilon,
        point=x,
        loss=x.new_zeros(len(x)),
        order=(random.uniform((basis.count,), "order") + basis.rings(x.device)).argsort(
            dim=1, stable=True
        ),
        turn=torch.zeros_like(y),
        sign=x.new_ones(len(x)),
    )


def _moved(hunt: Hunt, basis: Basis, step: float, threat: Threat) -> Tensor:
    """Return the points (B, *S) one step along the next directions, in ball and box."""
    number = hunt.order.gather(1, (hunt.turn % basis.count)[:, None])[:, 0]
    move = basis.at(number).view_as(hunt.x).to(hunt.x.dtype)
    moved = hunt.point + move * like(step * hunt.sign, move)
    return pull(moved, hunt.x, threat.norm, like(hunt.epsilon, move), (threat.low, threat.high))


def _stepped(hunt: Hunt, moved: Tensor, losses: Tensor) -> Hunt:
    """Return the hunt after one try: on to the next direction, or the other way along this one."""
    better = losses > hunt.loss
    done = better | (hunt.sign < 0)
    return replace(
        hunt,
        point=torch.where(like(better, moved), moved, hunt.point),
        # NaN stays, so that the next look at the losses finds it.
        loss=torch.where(better | losses.isnan(), losses, hunt.loss),
        turn=hunt.turn + done.long(),
        sign=torch.where(done, 1.0, -1.0).to(hunt.sign.dtype),
    )


def _one_hot(length: int, where: Tensor) -> Tensor:
    """Return unit vectors (B, length)."""
    return (torch.arange(length, device=where.device) == where[:, None]).double()


def _wave(length: int, frequency: Tensor) -> Tensor:
    """Return vectors (B, length) of the orthonormal cosine transform (DCT-II), in float64."""
    place = torch.arange(length, device=frequency.device, dtype=torch.float64)
    angle = (2 * place + 1) * frequency[:, None]
    scale = ((2 - (frequency == 0).double()) / length).sqrt()
    return torch.cos(angle * (torch.pi / (2 * length))) * scale[:, None]


def _check(queries: int, step: float, lowest: float) -> None:
    if queries < 1:
        raise BadOption(f"simba: queries={queries} must be 1 or more")
    if not step > 0:
        raise BadOption(f"simba: step={step} must be above 0")
    if not 0 < lowest <= 1:
        raise BadOption(f"simba: lowest={lowest} must be above 0 and at most 1")
