"""An attack that knows the detector: inputs misread by the model, and let pass by the gate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.contracts import Norm, Outputs, Random
from trustml.geometry import diameter, like, pull, steepest
from trustml.threats import Lp

STEPS, QUERIES = 60, 120
STARTS = ("itself", "anywhere")
MOMENTUM = 0.7
# Steps of the climb, in budgets: long first, then fine.
LONGEST, SHORTEST = 0.5, 0.01
# Of the two gaps, one that is closed by a quarter of its unit hardly draws any more.
SHARP = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Guarded:
    """A model behind a gate, as one who knows both meets them.

    Args:
        ask: inputs (B, *S) → outputs, with a graph where the inputs have one.
        scorer: outputs → suspicion (B,), with a graph where it can have one.
        threshold: suspicions above it are stopped.
        units: the spread of margins and of suspicions over ordinary inputs.
    """

    ask: Callable[[Tensor], Outputs]
    scorer: Callable[[Outputs], Tensor]
    threshold: float
    units: tuple[float, float]

    def gaps(self, x: Tensor, y: Tensor) -> Tensor:
        """Return (B, 2) how much is lacking to be misread, and to be accepted; 0 or less is none.

        The first is the margin of the true class, the second the suspicion above the threshold,
        each in its unit.
        """
        outputs = self.ask(x)
        logits = outputs.logits.double()
        own = logits.gather(1, y[:, None])[:, 0]
        other = logits.scatter(1, y[:, None], -torch.inf).amax(1)
        over = self.scorer(outputs).to(logits) - self.threshold
        return torch.stack([(own - other) / self.units[0], over / self.units[1]], 1)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Candidates like x that the search ends with, and whether any gradient led it."""

    candidate: Tensor
    by_gradient: bool


def unit_of(values: Tensor) -> float:
    """Return the spread of finite values, or 1 where there is none."""
    finite = values[values.isfinite()].double()
    spread = float(finite.std()) if len(finite) > 1 else 0.0
    return spread if spread > 0 else 1.0


def slip_past(guarded: Guarded, x: Tensor, y: Tensor, threat: Lp, random: Random) -> Found:
    """Return candidates (B, *S) that should be misread and accepted; whoever calls must judge them.

    Where gradients go through model and scorer it climbs by them, from the inputs and from random
    points; a random search goes on from the best that was found, or does it all.
    """
    held = _Held.of(guarded, x, y)
    by_gradient = _has_gradients(guarded, x[:1], y[:1])
    if by_gradient:
        for number, start in enumerate(STARTS):
            point = x if start == "itself" else _anywhere(x, threat, random)
            _climb(guarded, held, point, (x, y), (threat, STEPS >> number))
    _search(guarded, held, (x, y), threat, random)
    return Found(held.best, by_gradient)


@dataclass(slots=True, eq=False)
class _Held:
    """The best candidate of each sample so far, and what it lacks (B,)."""

    best: Tensor
    lack: Tensor

    @classmethod
    def of(cls, guarded: Guarded, x: Tensor, y: Tensor) -> "_Held":
        with torch.no_grad():
            return cls(x.clone(), _lack(guarded.gaps(x, y)))

    def keep(self, rows: Tensor, point: Tensor, gaps: Tensor) -> None:
        """Take the points of the rows that lack less."""
        lack = _lack(gaps)
        better = lack < self.lack[rows]
        self.best[rows[better]], self.lack[rows[better]] = point[better], lack[better]

    @property
    def open(self) -> Tensor:
        """The rows of samples that still lack something."""
        return (self.lack > 0).nonzero().flatten()


def _lack(gaps: Tensor) -> Tensor:
    """Return (B,) the sum of what lacks; what is not a number lacks everything.

    A margin of 0 is no misreading yet, so that it lacks a hair.
    """
    gaps = gaps.detach().nan_to_num(nan=torch.inf)
    misread, accepted = gaps[:, 0] < 0, gaps[:, 1] <= 0
    total = gaps.clamp_min(0).sum(1).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(misread & accepted, 0.0, total)


def _has_gradients(guarded: Guarded, x: Tensor, y: Tensor) -> bool:
    """Return whether both gaps have a gradient with respect to the input."""
    start = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        gaps = guarded.gaps(start, y)
        # The scorer may have cut the graph of its own column alone.
        return all(_depends(gaps[:, k].sum(), start) for k in range(gaps.shape[1]))


def _depends(height: Tensor, start: Tensor) -> bool:
    if not height.requires_grad:
        return False
    (slope,) = torch.autograd.grad(height, start, allow_unused=True, retain_graph=True)
    return slope is not None and bool((slope != 0).any())


def _anywhere(x: Tensor, threat: Lp, random: Random) -> Tensor:
    """Return a random point of each ball."""
    move = 2 * random.uniform(tuple(x.shape[1:]), "aware start") - 1
    return _pulled(x + move.to(x) * (threat.high - threat.low), x, threat)


def _climb(
    guarded: Guarded,
    held: _Held,
    start: Tensor,
    samples: tuple[Tensor, Tensor],
    plan: tuple[Lp, int],
) -> None:
    """Follow both gradients, each of length 1, weighed by how much each gap is still open."""
    (x, y), (threat, steps) = samples, plan
    point, pace = start.clone(), torch.zeros_like(x)
    share = max(x[0].numel() // 20, 1) if threat.norm in ("l1", "l0") else 1
    far = _reach(x, threat)
    for step in range(steps):
        rows = held.open
        if not len(rows):
            return
        here = point[rows].detach().requires_grad_()
        with torch.enable_grad():
            gaps = guarded.gaps(here, y[rows])
            slopes = [
                _unit(torch.autograd.grad(gaps[:, k].sum(), here, retain_graph=k == 0)[0])
                for k in (0, 1)
            ]
        held.keep(rows, here.detach(), gaps)
        weight = torch.sigmoid(SHARP * gaps.detach()).to(x)
        downhill = -sum(like(weight[:, k], x) * slopes[k] for k in (0, 1))
        pace[rows] = MOMENTUM * pace[rows] + downhill
        length = far * (SHORTEST + (LONGEST - SHORTEST) * (1 - step / steps) ** 2)
        moved = here.detach() + length * steepest(pace[rows], threat.norm, share)
        point[rows] = _pulled(moved, x[rows], threat)
    rows = held.open
    if len(rows):
        with torch.no_grad():
            held.keep(rows, point[rows], guarded.gaps(point[rows], y[rows]))


def _search(
    guarded: Guarded, held: _Held, samples: tuple[Tensor, Tensor], threat: Lp, random: Random
) -> None:
    """Move a part of each input by the whole budget, and keep what lacks less."""
    x, y = samples
    for step in range(QUERIES):
        rows = held.open
        if not len(rows):
            return
        part = _part(x.shape[1:], 0.3 * (1 - step / QUERIES) ** 2, random.at(rows), step)
        sign = random.at(rows).integers(2, (1,) * (x.dim() - 1), "aware sign", step) * 2.0 - 1
        wish = x[rows] + sign.to(x) * _reach(x, threat)
        point = _pulled(torch.where(part, wish, held.best[rows]), x[rows], threat)
        with torch.no_grad():
            held.keep(rows, point, guarded.gaps(point, y[rows]))


def _part(shape: Sequence[int], share: float, random: Random, step: int) -> Tensor:
    """Return (B, *S) bool: a square of an image, or entries of anything else, a share of all."""
    if len(shape) != 3:
        chosen = random.uniform(tuple(shape), "aware entries", step)
        return chosen <= chosen.flatten(1).amin(1).view(-1, *[1] * len(shape)).clamp_min(share)
    _, height, width = shape
    side = max(round((share * height * width) ** 0.5), 1)
    inside = []
    for axis, size in ((2, height), (3, width)):
        first = random.integers(max(size - side, 0) + 1, (1, 1, 1), f"aware place {axis}", step)
        place = torch.arange(size, device=first.device).view(
            [-1 if a == axis else 1 for a in range(4)]
        )
        inside.append((place >= first) & (place < first + side))
    return (inside[0] & inside[1]).expand(-1, *shape)


def _reach(x: Tensor, threat: Lp) -> float:
    """Return how far a step may go at all."""
    return min(float(threat.epsilon), diameter(threat.norm, threat.high - threat.low, x[0].numel()))


def _pulled(candidate: Tensor, x: Tensor, threat: Lp) -> Tensor:
    norm: Norm = threat.norm
    return pull(candidate, x, norm, threat.budget(x), (threat.low, threat.high))


def _unit(slope: Tensor) -> Tensor:
    """Return slopes (B, *S) of length 1; 0 where there is none, or it is not a number."""
    return steepest(slope.nan_to_num(0.0, 0.0, 0.0), "l2")
