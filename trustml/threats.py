"""Threats: what an attacker may do to an input, and when it has won."""

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from trustml.contracts import Norm
from trustml.errors import BadInput, UnknownName
from trustml.geometry import distance, like, project


@dataclass(frozen=True, slots=True, eq=False)
class Lp:
    """Move x by at most epsilon in an Lp norm, staying in the box [low, high].

    Args:
        norm: "linf", "l2", "l1" or "l0" (the number of entries that change).
        epsilon: one number, or one a sample (B,); infinity leaves just the box.
        targeted: the labels given with the inputs are wanted, not true.

    Raises:
        UnknownName: there is no such norm.
        BadInput: an epsilon that is negative or NaN, or a box that is empty.
    """

    norm: Norm
    epsilon: float | Tensor
    low: float = 0.0
    high: float = 1.0
    targeted: bool = False

    def __post_init__(self) -> None:
        """Check the numbers once, so that nothing downstream has to."""
        if self.norm not in get_args(Norm):
            raise UnknownName.of("norm", str(self.norm), get_args(Norm))
        if isinstance(self.epsilon, Tensor) and self.epsilon.dim() != 1:
            raise BadInput(
                f"epsilon per sample must have shape (B,), not {tuple(self.epsilon.shape)}"
            )
        if not bool((torch.as_tensor(self.epsilon) >= 0).all()):
            raise BadInput(f"epsilon must be 0 or more, not {self.epsilon}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise BadInput(f"the box [{self.low}, {self.high}] is empty or not finite")

    def budget(self, x: Tensor, /) -> Tensor:
        """Return epsilon in float64, shaped (B, 1, …) to broadcast over x (B, *S).

        Raises:
            BadInput: one epsilon a sample was given, for another number of samples.
        """
        if not isinstance(self.epsilon, Tensor):
            return torch.full((), self.epsilon, dtype=torch.float64, device=x.device)
        if len(self.epsilon) != len(x):
            raise BadInput(f"{len(self.epsilon)} epsilons were given for {len(x)} samples")
        return like(self.epsilon.to(x.device, torch.float64), x)

    def project(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return the nearest allowed points (B, *S), exactly inside ball and box."""
        return project(candidate, x, self.norm, self.budget(x), (self.low, self.high))

    def contains(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return (B,) whether each candidate is inside ball and box, computed in float64."""
        flat = candidate.flatten(1)
        boxed = ((flat >= self.low) & (flat <= self.high)).all(1)
        return boxed & (distance(candidate, x, self.norm) <= self.budget(x).flatten())

    def reached(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """Return (B,) whether the answer to logits (B, K) is what the attacker wants."""
        return (logits.argmax(1) == y) == self.targeted

    def at(self, rows: Tensor, /) -> "Lp":
        """Return the threat of the given rows."""
        if not isinstance(self.epsilon, Tensor):
            return self
        return Lp(self.norm, self.epsilon[rows], self.low, self.high, self.targeted)
