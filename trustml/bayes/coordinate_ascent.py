"""Coordinate ascent of the ELBO, as the CAVI mixtures share it: climb, first guess, checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from trustml.bayes.checks import check_finite_entries, check_whole, finite_number
from trustml.errors import BadInput, BadOption

Belief = TypeVar("Belief")
Step = Callable[[Tensor], tuple[Belief, Tensor, float]]


@dataclass(frozen=True, slots=True)
class Climb:
    """How coordinate ascent is run.

    Args:
        sweeps: at most this many over all factors.
        tolerance: stop when a sweep adds less than this to the ELBO per example.
        restarts: runs from different first guesses; the one of greatest ELBO is kept.
    """

    sweeps: int = 500
    tolerance: float = 1e-9
    restarts: int = 5

    def __post_init__(self) -> None:
        check_whole(1, sweeps=self.sweeps, restarts=self.restarts)
        if not (finite_number(self.tolerance) and self.tolerance >= 0):
            raise BadOption(f"tolerance={self.tolerance!r} is not allowed: it must be 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class Ascent(Generic[Belief]):
    """Where a climb ended: the belief, responsibilities (N, K), the ELBO after every sweep."""

    belief: Belief
    responsibilities: Tensor
    elbo: tuple[float, ...]
    converged: bool


def ascend(
    step: Step[Belief], x: Tensor, components: int, climb: Climb, seed: int
) -> Ascent[Belief]:
    """Return the best of the climb's restarts, each from a k-means++ guess on points x (N, D)."""
    generator = torch.Generator().manual_seed(seed)
    runs = [
        climb_from(step, first_guess(x, components, generator), climb)
        for _ in range(climb.restarts)
    ]
    return max(runs, key=lambda run: run.elbo[-1])


def climb_from(step: Step[Belief], responsibilities: Tensor, climb: Climb) -> Ascent[Belief]:
    """Return the end of one climb. The ELBO never falls: coordinate ascent cannot make it."""
    elbo: list[float] = []
    for _ in range(climb.sweeps):
        belief, responsibilities, value = step(responsibilities)
        if elbo:
            assert value >= elbo[-1] - 1e-9 * (1 + abs(elbo[-1])), "a sweep lowered the ELBO"
            if value - elbo[-1] <= climb.tolerance * len(responsibilities):
                return Ascent(belief, responsibilities, (*elbo, value), True)
        elbo.append(value)
    return Ascent(belief, responsibilities, tuple(elbo), False)


def first_guess(x: Tensor, components: int, generator: Generator) -> Tensor:
    """Return one-hot responsibilities (N, K): the nearest of K far-apart points (k-means++)."""
    chosen = x[int(torch.randint(len(x), (1,), generator=generator))][None]
    nearest = (x - chosen).square().sum(1)
    for _ in range(components - 1):
        # Where every point is a chosen one already, any will do.
        weight = nearest if bool(nearest.sum() > 0) else torch.ones_like(nearest)
        fresh = x[int(torch.multinomial(weight.cpu(), 1, generator=generator))][None]
        chosen = torch.cat([chosen, fresh])
        nearest = torch.minimum(nearest, (x - fresh).square().sum(1))
    return one_hot(torch.cdist(x, chosen).argmin(1), components).to(x)


def check_points(x: Tensor, components: int) -> Tensor:
    """Return the points as (N, D) float64.

    Raises:
        BadInput: not (N,) or (N, D), none, not finite, or fewer points than components.
        BadOption: no components.
    """
    check_finite_entries(points=x)
    if x.ndim not in (1, 2) or not len(x):
        raise BadInput(f"points {tuple(x.shape)}: give (N,) or (N, D), N at least 1")
    check_whole(1, components=components)
    if components > len(x):
        raise BadInput(f"{components} components for {len(x)} points: give at most one a point")
    return (x[:, None] if x.ndim == 1 else x).double()
