"""JSMA: pairs of entries that a saliency map names, one pair after the other, to the walls."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from trustml.attacks._nearest import Nearest, answer, at_home, close_in
from trustml.attacks._pursuit import Seen, likeliest_others, look
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.registry import attack
from trustml.threats import Lp

Of = Literal["probabilities", "logits"]


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Where a walk stands (B, *S); which entries (B, D) have not been moved."""

    point: Tensor
    free: Tensor


@attack(
    source="Papernot et al. 2016, arXiv:1511.07528, algorithms 2 and 3 (logits); of=probabilities: "
    "Carlini & Wagner 2017, arXiv:1608.04644, §VII.B (JSMA-F)",
    needs=Access.GRADIENTS,
    norms=("l0",),
    minimum_norm=True,
)
def jsma(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    steps: int = 100,
    targets: int = 1,
    of: Of = "probabilities",
    tries: int = 20,
) -> Tensor:
    """Return the first points (B, *S) that win, entries put back; the input where none does.

    Each step moves the two entries of the highest saliency: how much the target's rise times how
    much all others' fall together. Of probabilities the two are the same number. Not in the paper:
    an entry goes to the wall at which the target gains, by a slope times the way there, and in the
    end what was not needed is put back.

    Args:
        model: gives logits with a gradient.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the box and the goal; the budget does not matter.
        random: not used.
        steps: pairs at most.
        targets: other classes that are walked to, the likeliest first; the nearest point counts. A
            targeted threat has just the one.
        of: whose slopes make the map. That of logits takes two passes a step, and a walk ends where
            no pair raises the target and lowers the others.
        tries: forward passes to put entries back; 0 as in the paper.

    Raises:
        BadOption: a count below 1 (tries: below 0).
        NotApplicable: the model's answers have no gradient.
    """
    if min(steps, targets) < 1 or tries < 0:
        raise BadOption(
            f"jsma: steps={steps} and targets={targets} must be 1 or more, tries={tries} 0 or more"
        )
    # With every point allowed, whoever has won is inside and may leave.
    endless = Lp(threat.norm, math.inf, threat.low, threat.high, threat.targeted)
    quarry = Quarry(x, y, endless, random)
    home = nearest = at_home(model, quarry)
    goals = y[:, None] if threat.targeted else likeliest_others(model, x, y)[:, :targets]

    for goal in goals.unbind(1):
        found = close_in(
            model, replace(quarry, target=goal), home, begin=_begin, see=partial(_see, of=of),
            advance=_advance, steps=steps + 1, stop_inside=True,
        )  # fmt: skip
        nearest = nearest.or_nearer(found.point, found.distance < torch.inf, quarry)
    return answer(thinned(model, quarry, nearest, tries), Quarry(x, y, threat, random))


def _begin(quarry: Quarry, nearest: Nearest) -> Marked:
    return Marked(quarry.x, torch.ones_like(quarry.x.flatten(1), dtype=torch.bool))


def _see(model: Classifier, walk: Marked, quarry: Quarry, of: Of) -> Seen:
    """Return what a look shows; the slope is (B, 2, *S): the target's, and that of all others."""
    if of == "logits":
        seen, others = (look(model, walk.point, quarry, loss) for loss in (_target, _others))
        return replace(seen, gradient=torch.stack([seen.gradient, others.gradient], 1))
    seen = look(model, walk.point, quarry, _probability)
    return replace(seen, gradient=torch.stack([seen.gradient, -seen.gradient], 1))


def _probability(logits: Tensor, quarry: Quarry) -> Tensor:
    """Return the logarithm of the target's probability: where that is all but 0 it has a slope."""
    assert quarry.target is not None
    return functional.log_softmax(logits, 1).gather(1, quarry.target[:, None])[:, 0]


def _target(logits: Tensor, quarry: Quarry) -> Tensor:
    assert quarry.target is not None
    return logits.gather(1, quarry.target[:, None])[:, 0]


def _others(logits: Tensor, quarry: Quarry) -> Tensor:
    return logits.sum(1) - _target(logits, quarry)


def _advance(walk: Marked, seen: Seen, quarry: Quarry, nearest: Nearest) -> Marked:
    """Return the walk with the pair of the highest saliency at its walls."""
    target, others = (slope.flatten(1).double() for slope in seen.gradient.unbind(1))
    point, threat = walk.point.flatten(1), quarry.threat
    wall = torch.where(target > 0, threat.high, threat.low).to(point.dtype)
    way = wall.double() - point.double()
    rise, fall = target * way, -others * way
    pair, valid = _most_salient(rise, fall, walk.free)
    # Who has won, or has no pair left, stays.
    chosen = torch.zeros_like(walk.free).scatter_(1, pair, True)
    chosen = chosen & (valid & ~seen.reached)[:, None]
    point = torch.where(chosen, wall, point)
    return Marked(point.view_as(walk.point), walk.free & ~chosen)


def _most_salient(rise: Tensor, fall: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs (B, 2) with the largest product of summed rise and fall, and if any (B,).

    An entry that two others outdo in both is in no best pair, so few have to be paired.
    """
    rise, order = rise.masked_fill(~free, -torch.inf).sort(dim=1, descending=True, stable=True)
    fall = fall.masked_fill(~free, -torch.inf).gather(1, order)
    first = _undone(fall, fall > -torch.inf)
    second = _undone(fall, (fall > -torch.inf) & ~first)
    # They first, in their order; how many more columns there are changes no sample's choice.
    kept = (first | second).sort(dim=1, descending=True, stable=True)
    most = max(2, int(kept.values.sum(1).max())) if rise.shape[1] > 1 else 1
    place = kept.indices[:, :most]
    rise, fall = (
        part.gather(1, place).masked_fill(~kept.values[:, :most], -torch.inf)
        for part in (rise, fall)
    )
    both, down = rise[:, :, None] + rise[:, None], fall[:, :, None] + fall[:, None]
    pairs = torch.ones(most, most, dtype=torch.bool, device=rise.device).triu(min(most - 1, 1))
    product = torch.where((both > 0) & (down > 0) & pairs, both * down, -torch.inf)
    best, number = product.flatten(1).max(dim=1)
    chosen = torch.stack([number // most, number % most], 1)
    return order.gather(1, place.gather(1, chosen)), best > -torch.inf


def _undone(fall: Tensor, among: Tensor) -> Tensor:
    """Return (B, D) which `among` the entries have more fall than all with more rise."""
    fall = fall.masked_fill(~among, -torch.inf)
    before = functional.pad(fall, (1, 0), value=-torch.inf).cummax(1).values[:, :-1]
    return among & (fall > before)
