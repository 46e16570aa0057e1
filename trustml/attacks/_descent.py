"""What walks towards the nearest winning point share: falling steps, unit directions, lengths.

Sums over a sample's entries are made in float64, so that no rounding depends on its companions.
"""

import math

import torch
from torch import Tensor

from trustml.attacks._losses import margin
from trustml.attacks._pursuit import Seen, Walk, look
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier, Norm, Threat
from trustml.geometry import like

_ORDER: dict[Norm, float] = {"linf": torch.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}
# What a linear function climbs at most by a move of length 1: the norm of its slope in the dual.
DUAL: dict[Norm, Norm] = {"linf": "l1", "l2": "l2", "l1": "linf"}
TINY = 1e-12


def annealed(first: float, last: float, step: int, steps: int) -> float:
    """Return where a cosine from `first` (step 0) to `last` (step `steps`) stands."""
    return last + (first - last) * (1 + math.cos(math.pi * step / steps)) / 2


def side(threat: Threat) -> float:
    """Return the width of the box: steps given in it fit inputs of any scale."""
    return threat.high - threat.low


def length(move: Tensor, norm: Norm) -> Tensor:
    """Return the norms (B,) of moves (B, *S), in float64."""
    return torch.linalg.vector_norm(move.flatten(1).double(), ord=_ORDER[norm], dim=1)


def unit(move: Tensor, norm: Norm = "l2") -> Tensor:
    """Return the moves (B, *S) scaled to length 1; zero stays zero."""
    # By the largest entry first: the squares of tiny numbers would vanish.
    largest = move.flatten(1).abs().amax(1).clamp_min(torch.finfo(move.dtype).tiny)
    move = move / like(largest, move)
    if norm == "linf":
        return move
    return move / like(length(move, norm).clamp_min(TINY).to(move.dtype), move)


def see_margin(model: Classifier, walk: Walk, quarry: Quarry) -> Seen:
    """Return what one look shows, with the margin, above 0 just where the attacker wins."""

    def lead(logits: Tensor, quarry: Quarry) -> Tensor:
        return margin(logits, quarry.y, quarry.threat.targeted)

    return look(model, walk.point, quarry, lead)
