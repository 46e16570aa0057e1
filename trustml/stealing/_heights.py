"""Answers as heights: numbers that are piecewise affine in the input, with their rounding error.

Logits are; of probabilities, the log-ratios. log p less its mean over classes is logits less their
mean, and K − 1 orthonormal combinations of it hold all that the answers tell.
"""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from trustml.asking import ask, asked
from trustml.contracts import Access, Victim
from trustml.errors import MethodFailed

# Below this a probability has lost digits to underflow.
TINY = {torch.float32: 1e-37, torch.float64: 1e-300}
# Roundings that a network's answer gathers on its way.
ROUNDINGS = 2


@dataclass(frozen=True, slots=True)
class Precision:
    """How a line is asked along in one precision.

    Args:
        far: where it ends if inputs are free, in half box diagonals: bends get rare as 1/t.
        step: distance of two queries that give a slope, as a share of their interval.
        caution: see _normals.CAUTION.
        enough: see _normals.ENOUGH.
        spare: places to stand on beyond the fewest.
    """

    far: float
    step: float
    caution: tuple[float, float]
    enough: float
    spare: int


PRECISIONS = {
    torch.float64: Precision(1e5, 1e-3, (300.0, 10.0), 3e-6, 2),
    # A slope from close by is mostly rounding: longer steps, more places, repairs afterwards.
    torch.float32: Precision(30.0, 0.03, (10.0, 4.0), 1e-4, 8),
}


class Heights:
    """The victim's heights (B, H) at points (B, D), in float64, each query and answer kept."""

    def __init__(self, victim: Victim) -> None:
        """Listen to `victim`, which answers logits or probabilities."""
        self.victim = victim
        self.size = prod(victim.domain.shape)
        self.mixing = _mixing(victim)
        self.precision = PRECISIONS[victim.dtype]
        self._unit = torch.finfo(victim.dtype).eps / 2
        self._level = 1.0
        self._asked: list[tuple[Tensor, Tensor]] = []

    def __call__(self, points: Tensor) -> Tensor:
        """Return heights (B, H).

        Raises:
            MethodFailed: a probability has vanished there.
        """
        heights = self.or_nan(points)
        if bool(heights.isnan().any()):
            raise MethodFailed("the victim's softmax saturates where its heights are needed")
        return heights

    def or_nan(self, points: Tensor) -> Tensor:
        """Return heights (B, H); NaN where a probability has vanished."""
        points = asked(points, self.victim)
        answers = ask(self.victim, points)
        if self.victim.terms.answers != Access.LOGITS:
            answers = answers.where(answers >= TINY[self.victim.dtype], torch.nan).log()
        heights = answers @ self.mixing
        there = ~heights.isnan().any(1)
        if not self._asked and bool(there.any()):
            self._level = 1 + float(heights[there].abs().max())
        self._asked.append((points[there], heights[there]))
        return heights

    def noise(self, heights: Tensor) -> Tensor:
        """Return how far off each row of heights (B, H) may be by rounding, (B,)."""
        return ROUNDINGS * self._unit * (heights.abs().amax(1) + self._level)

    def all_asked(self) -> tuple[Tensor, Tensor]:
        """Return all points (N, D) asked about and their heights (N, H)."""
        points, heights = zip(*self._asked, strict=True)
        return torch.cat(points), torch.cat(heights)


def _mixing(victim: Victim) -> Tensor:
    """Return (K, H): what the heights are of logits. Its transpose leads back to centred logits."""
    classes = victim.domain.classes
    if victim.terms.answers == Access.LOGITS:
        return torch.eye(classes, dtype=torch.float64)
    # Helmert's contrasts: orthonormal, and orthogonal to what a softmax hides.
    rows = torch.tril(torch.ones(classes - 1, classes, dtype=torch.float64))
    number = torch.arange(1, classes, dtype=torch.float64)
    rows[torch.arange(classes - 1), torch.arange(1, classes)] = -number
    return (rows / (number * (number + 1)).sqrt()[:, None]).T
