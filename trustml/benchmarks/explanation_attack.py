"""How an explanation is attacked: along the gradient of a smooth stand-in, and by moves tried."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu, relu_, softplus
from torch.overrides import TorchFunctionMode

from trustml.access import frozen
from trustml.benchmarks.explained import Explain, generator
from trustml.benchmarks.explanation_sums import squares
from trustml.contracts import Classifier

# The slope of a ReLU network is constant almost everywhere, so that it has no slope of its own:
# softplus(20 x) / 20 has one (Ghorbani et al. 2019, §3; Dombrowski et al. 2019, arXiv:1906.07983).
_SHARPNESS = 20.0
_RELUS = (relu, relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_)
_ROWS = 64
# Inputs → what the attacker gains (B,); inputs and their rows → the same with a graph.
Gain = Callable[[Tensor], Tensor]
Score = Callable[[Tensor, slice], Tensor]
Way = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Where an attacker looks: within `radius` of x (B, *S) in every entry, and within the box."""

    x: Tensor
    radius: float
    bounds: tuple[float, float] | None
    seed: int

    def moved(self, move: Tensor) -> Tensor:
        """Return the inputs after the move."""
        moved = self.x + move
        return moved if self.bounds is None else moved.clamp(*self.bounds)


def smooth_stand_in(model: Classifier, *, influence: bool) -> Explain:
    """Return (x, target) → maps with a graph: the softened model's gradient, or x times it.

    Every ReLU that the model calls is a softplus meanwhile; nothing in the model is changed.
    """

    def explain(x: Tensor, target: Tensor) -> Tensor:
        with frozen(model), _Softened():
            logit = model(x).gather(1, target[:, None]).sum()
            (slope,) = torch.autograd.grad(logit, x, create_graph=True)
        return slope if influence else x * slope

    return explain


def slope_of(score: Score) -> Way:
    """Return inputs → the slope of score (B,) there, or None where it has none.

    `score` is of inputs, and of the rows that they are.
    """

    def way(x: Tensor) -> Tensor | None:
        slopes = []
        for start in range(0, len(x), _ROWS):
            rows = slice(start, start + _ROWS)
            leaf = x[rows].detach().requires_grad_()
            with torch.enable_grad():
                try:
                    (slope,) = torch.autograd.grad(score(leaf, rows).sum(), leaf)
                except RuntimeError as error:
                    if "grad" not in str(error) and "not have been used" not in str(error):
                        raise
                    return None
            slopes.append(slope.nan_to_num(0.0))
        return torch.cat(slopes)

    return way


def walk(
    search: Search, gain: Gain, way: Way, move: Tensor, best: Tensor, steps: int
) -> tuple[Tensor, Tensor, bool]:
    """Return the best move and its gain after steps to corners of the ball, and whether any went.

    Each step is as long as the ball is wide, and the best point is kept, not the last.
    """
    here = move
    for step in range(steps):
        slope = way(search.moved(here))
        if slope is None or not bool(slope.any()):
            return move, best, step > 0
        here = (here + search.radius * slope.sign()).clamp(-search.radius, search.radius)
        move, best = _kept(search, gain, here, move, best)
    return move, best, steps > 0


def climb(
    search: Search, gain: Gain, move: Tensor, best: Tensor, climbs: int
) -> tuple[Tensor, Tensor]:
    """Return the move and its gain after setting squares of it to ± radius while that helps."""
    if not climbs:
        return move, best
    x = search.x
    masks = squares(x, climbs, search.seed + 1)
    signs = torch.randint(0, 2, (climbs, *x.shape[1:]), generator=generator(search.seed + 2)).to(x)
    # Half of the proposals push a whole square one way, the others each entry by itself.
    whole = signs.flatten(1)[:, :1].view(-1, *[1] * (x.dim() - 1)).expand_as(signs)
    even = torch.arange(climbs, device=x.device).view(-1, *[1] * (x.dim() - 1)) % 2 == 0
    pushes = search.radius * (2 * torch.where(even, whole, signs) - 1)
    for mask, push in zip(masks, pushes, strict=True):
        move, best = _kept(search, gain, torch.where(mask, push, move), move, best)
    return move, best


def like(rows: Tensor, x: Tensor) -> Tensor:
    """Return what is said of rows (B,) in the shape that fits x (B, *S)."""
    return rows.view(-1, *[1] * (x.dim() - 1))


def _kept(
    search: Search, gain: Gain, tried: Tensor, move: Tensor, best: Tensor
) -> tuple[Tensor, Tensor]:
    reached = gain(search.moved(tried))
    better = reached >= best
    return torch.where(like(better, move), tried, move), torch.where(better, reached, best)


class _Softened(TorchFunctionMode):
    """Softplus wherever a ReLU is called."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function in _RELUS:
            return softplus(args[0], beta=_SHARPNESS)
        return function(*args, **(kwargs or {}))
