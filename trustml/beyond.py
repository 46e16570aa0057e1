"""Threats beyond the balls of norms: patches, turns, flows, colours, structure, brightness."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from trustml.contracts import Measure, Norm, Random, Threat
from trustml.errors import BadInput, UnknownName
from trustml.geometry import diameter
from trustml.measures import colour, flow, patch, spatial, structure, wasserstein
from trustml.threats import Lp, check_answers, check_budget, spread

Box = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Ruler:
    """A measure of a change: epsilon is (B, 1, …) or a scalar in float64 everywhere.

    Args:
        check: refuses inputs that have no such changes.
        distance: of candidates from x in a box, (B,) in float64.
        project: candidates to allowed points near them.
        drawn: random allowed points.
        usual: the epsilon where none is given.
        most: what epsilon may be at most.
        told: what is allowed, in words; epsilon stands for {}.
    """

    check: Callable[[Tensor], None]
    distance: Callable[[Tensor, Tensor, Tensor, Box], Tensor]
    project: Callable[[Tensor, Tensor, Tensor, Box], Tensor]
    drawn: Callable[[Tensor, Tensor, Box, Random, int], Tensor]
    usual: float
    most: float = math.inf


RULERS: dict[str, Ruler] = {
    "patch": Ruler(patch.check, patch.distance, patch.project, patch.drawn, patch.USUAL, 1.0),
    "spatial": Ruler(
        spatial.check, spatial.distance, spatial.project, spatial.drawn, spatial.USUAL, 1.0
    ),
    "colour": Ruler(colour.check, colour.distance, colour.project, colour.drawn, colour.USUAL),
    "structure": Ruler(
        structure.check, structure.distance, structure.project, structure.drawn, structure.USUAL,
        2.0,
    ),
    "wasserstein": Ruler(
        wasserstein.check, wasserstein.distance, wasserstein.project, wasserstein.drawn,
        wasserstein.USUAL,
    ),
    "flow": Ruler(flow.check, flow.distance, flow.project, flow.drawn, flow.USUAL),
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Beyond:
    """Change x by at most epsilon in a measure that is no norm, staying in the box [low, high].

    Args:
        norm: "patch" (share of the area in one rectangle), "spatial" (share of the range of turns
            and shifts), "colour" (CIEDE2000 of each pixel), "structure" (1 − SSIM), "wasserstein"
            (pixels that all the brightness may be moved, on average) or "flow" (pixels away that
            each may look).
        epsilon: one number, or one a sample (B,).
        targeted: the labels given with the inputs are wanted, not true.

    Raises:
        UnknownName: there is no such measure.
        BadInput: an epsilon that is negative, NaN or beyond what there is, or an empty box.
    """

    # A Threat's norm is a Norm; attacks that declare one of these measures compute with none.
    norm: Any
    epsilon: float | Tensor
    low: float = 0.0
    high: float = 1.0
    targeted: bool = False

    def __post_init__(self) -> None:
        """Check the numbers once, so that nothing downstream has to."""
        if self.norm not in RULERS:
            raise UnknownName.of("measure", str(self.norm), RULERS)
        check_budget(self.epsilon, self.low, self.high)
        most = RULERS[self.norm].most
        if bool((torch.as_tensor(self.epsilon) > most).any()):
            larger = "; a patch cannot be larger than the image" if self.norm == "patch" else ""
            raise BadInput(
                f"epsilon of {self.norm} is a share up to {most:g}, not {self.epsilon}{larger}"
            )

    def budget(self, x: Tensor, /) -> Tensor:
        """Return epsilon in float64, shaped (B, 1, …) to broadcast over x (B, *S).

        Raises:
            NotApplicable: the measure does not know such inputs.
            BadInput: one epsilon a sample was given, for another number of samples.
        """
        RULERS[self.norm].check(x)
        return spread(self.epsilon, x)

    def project(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return allowed points (B, *S) near the candidates, those already allowed as they are."""
        held = self.contains(candidate, x)[(...,) + (None,) * (x.dim() - 1)]
        if bool(held.all()):
            return candidate
        epsilon, box = self.budget(x), (self.low, self.high)
        rows = (~held.flatten()).nonzero()[:, 0]
        far = epsilon if epsilon.dim() == 0 else epsilon[rows]
        moved = RULERS[self.norm].project(candidate[rows], x[rows], far, box)
        return candidate.index_copy(0, rows, moved.to(candidate.dtype))

    def contains(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return (B,) whether each candidate is allowed, computed in float64."""
        flat, epsilon = candidate.flatten(1), self.budget(x)
        low, high = (float(value) for value in candidate.new_tensor([self.low, self.high]))
        boxed = ((flat >= low) & (flat <= high)).all(1)
        far = self.distance(candidate, x)
        same = (flat == x.flatten(1)).all(1)
        return boxed & (same | (far <= epsilon.flatten()))

    def distance(self, candidate: Tensor, x: Tensor, /) -> Tensor:
        """Return how far each candidate is from x in the measure, (B,) in float64."""
        box = (self.low, self.high)
        return RULERS[self.norm].distance(candidate, x, self.budget(x), box)

    def reached(self, logits: Tensor, y: Tensor, /) -> Tensor:
        """Return (B,) whether the answer to logits (B, K) is what the attacker wants.

        Raises:
            MethodFailed: the model's answers are not (B, K) with two classes or more.
        """
        check_answers(logits, len(y))
        return (logits.argmax(1) == y) == self.targeted

    def at(self, rows: Tensor, /) -> "Beyond":
        """Return the threat of the given rows."""
        if not isinstance(self.epsilon, Tensor):
            return self
        return Beyond(self.norm, self.epsilon[rows], self.low, self.high, self.targeted)


def threat(
    measure: Measure,
    epsilon: float | Tensor,
    low: float = 0.0,
    high: float = 1.0,
    targeted: bool = False,
) -> Threat:
    """Return what an attacker may do within epsilon of a norm or of a measure that is none.

    Raises:
        UnknownName: there is neither.
        BadInput: an epsilon that is not allowed, or an empty box.
    """
    if measure in RULERS:
        return Beyond(measure, epsilon, low, high, targeted)
    if measure not in get_args(Norm):
        raise UnknownName.of("norm", str(measure), get_args(Measure))
    return Lp(measure, epsilon, low, high, targeted)  # type: ignore[arg-type]


def drawn(around: Threat, x: Tensor, random: Random, draw: int = 0) -> Tensor:
    """Return random points (B, *S) that a measure's threat allows, but for rounding."""
    box = (around.low, around.high)
    return RULERS[around.norm].drawn(x, around.budget(x), box, random, draw)


def check_epsilon(measure: Measure, epsilon: float, x: Tensor) -> None:
    """Check that epsilon allows something and not everything to inputs like x (B, *S).

    Raises:
        NotApplicable: the measure does not know such inputs.
        BadInput: epsilon allows nothing, or any change at all.
    """
    RULERS[measure].check(x)
    shape = tuple(x.shape[1:])
    words = f"--epsilon {epsilon:g} in {measure}"
    allowed = torch.tensor(epsilon, dtype=torch.float64)
    if measure == "patch" and not int(patch.pixels(allowed, x[:1])[0]):
        raise BadInput(
            f"{words} is less than a pixel of {shape[1]}×{shape[2]}: give "
            f"{1 / (shape[1] * shape[2]):.2g} or more"
        )
    if epsilon >= widest(measure, 1.0, shape) and measure != "spatial":
        larger = "a patch as large as the image or larger" if measure == "patch" else "any change"
        raise BadInput(f"{words} allows {larger}; give less than {widest(measure, 1.0, shape):g}")
    if epsilon > RULERS[measure].most:
        raise BadInput(f"{words}: give {RULERS[measure].most:g} at most, which is the whole range")


def widest(measure: Measure, side: float, shape: tuple[int, ...]) -> float:
    """Return the longest distance within a box of that side between inputs of the shape."""
    if measure not in RULERS:
        entries = math.prod(shape)
        return diameter(measure, side, entries)  # type: ignore[arg-type]
    ends = {
        "wasserstein": float(sum(shape[1:])), "structure": 2.0, "colour": 150.0,
        "flow": float(max(shape[1:], default=1)),
    }  # fmt: skip
    return ends.get(measure, 1.0)
