"""Does an explanation stand still? Maximum sensitivity, and stability under attack."""

from collections.abc import Callable

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.benchmarks.explained import Explain, generator, places
from trustml.benchmarks.explanation_scores import Measured, mean_of
from trustml.benchmarks.explanation_sums import squares
from trustml.contracts import Classifier
from trustml.errors import BadOption

_MOST_ROWS = 2048


def max_sensitivity(
    explain: Explain,
    x: Tensor,
    target: Tensor,
    *,
    radius: float = 0.02,
    draws: int = 10,
    climbs: int = 0,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Measured:
    """Return the greatest ‖E(x + δ) - E(x)‖₂ / ‖E(x)‖₂ found (B,) with ‖δ‖∞ ≤ radius.

    Yeh et al. 2019, def. 2.2. A map that never changes gets 0, right or wrong: read it beside the
    reference rows. Undefined where E(x) is zero everywhere.

    Args:
        explain: (x, target) → maps.
        x: inputs (B, *S).
        target: classes (B,).
        radius: how far each entry may move.
        draws: uniform moves, the same for every input.
        climbs: further moves that keep what is found and flip squares of it to the ball's corners;
            with 0, the sampled figure of the literature.
        bounds: box that the moved inputs stay in.
        seed: of the moves.

    Raises:
        BadOption: a radius not above 0, or no draws.
    """
    _check("max_sensitivity", radius, draws, climbs)
    still = explain(x, target).double().flatten(1)
    # A map of zeros has no relative change.
    size = still.norm(dim=1)
    size = torch.where(size > 0, size, torch.nan)

    def moved(candidate: Tensor) -> Tensor:
        maps = explain(candidate, target).double().flatten(1)
        return (maps - still).norm(dim=1) / size

    shape = tuple(x.shape[1:])
    noise = radius * (2 * torch.rand(draws, *shape, generator=generator(seed)) - 1)
    best = torch.full((len(x),), -1.0, dtype=torch.float64, device=x.device)
    move = torch.zeros_like(x)
    for group in noise.to(x).split(max(1, _MOST_ROWS // len(x))):
        candidates = _inside(x + group[:, None], bounds)
        maps = explain(candidates.flatten(0, 1), target.repeat(len(group)))
        gaps = (maps.double().view(len(group), len(x), -1) - still).norm(dim=2) / size
        most = gaps.max(0)
        better = ~(most.values <= best)
        best = torch.where(better, most.values, best)
        move = torch.where(_like(better, x), group[most.indices], move)
    if climbs:
        best = _climb(moved, x, move, best, radius, climbs, bounds, seed)
    return mean_of(best, "lower")


def stability_under_attack(
    model: Classifier,
    explain: Explain,
    x: Tensor,
    target: Tensor,
    *,
    radius: float = 0.05,
    climbs: int = 40,
    top: float = 0.1,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Measured:
    """Return the least share (B,) of the most important places that an attacker leaves in place.

    It moves every entry by at most `radius`, in such a way that the answer stays (Ghorbani et al.
    2019, arXiv:1710.10547). It needs no gradient of the explanation, so every method is attacked
    alike; a stronger attacker may find less.

    Args:
        model: whose answer must stay.
        explain: (x, target) → maps.
        x: inputs (B, *S).
        target: classes (B,).
        radius: how far each entry may move.
        climbs: moves tried.
        top: share of places that counts as the most important.
        bounds: box that the moved inputs stay in.
        seed: of the moves.

    Raises:
        BadOption: a radius not above 0, no moves, or a share outside (0, 1).
    """
    _check("stability_under_attack", radius, climbs, climbs)
    if not 0 < top < 1:
        raise BadOption(f"stability_under_attack: top={top} must lie between 0 and 1")
    still = places(explain(x, target).double())
    count = max(1, round(top * still.shape[1]))
    wanted = torch.zeros_like(still).scatter_(1, still.topk(count, 1).indices, 1.0)
    answer = _answers(model, x)

    def displaced(candidate: Tensor) -> Tensor:
        maps = places(explain(candidate, target).double())
        share = wanted.gather(1, maps.topk(count, 1).indices).mean(1)
        return torch.where(_answers(model, candidate) == answer, 1 - share, -1.0)

    start = torch.zeros_like(x)
    best = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    return mean_of(1 - _climb(displaced, x, start, best, radius, climbs, bounds, seed), "higher")


def _climb(
    gain: Callable[[Tensor], Tensor],
    x: Tensor,
    move: Tensor,
    best: Tensor,
    radius: float,
    climbs: int,
    bounds: tuple[float, float] | None,
    seed: int,
) -> Tensor:
    """Return the gain (B,) reached by setting squares of each move to ± radius while it helps."""
    masks = squares(x, climbs, seed + 1)
    signs = torch.randint(0, 2, (climbs, *x.shape[1:]), generator=generator(seed + 2)).to(x)
    # Half of the proposals push a whole square one way, the others each entry by itself.
    whole = signs.flatten(1)[:, :1].view(-1, *[1] * (x.dim() - 1)).expand_as(signs)
    even = torch.arange(climbs, device=x.device).view(-1, *[1] * (x.dim() - 1)) % 2 == 0
    pushes = radius * (2 * torch.where(even, whole, signs) - 1)
    for mask, push in zip(masks, pushes, strict=True):
        tried = torch.where(mask, push, move)
        reached = gain(_inside(x + tried, bounds))
        better = reached >= best
        best = torch.where(better, reached, best)
        move = torch.where(_like(better, x), tried, move)
    return best


def _answers(model: Classifier, x: Tensor) -> Tensor:
    """Return the classes (B,) that the model chooses."""
    with frozen(model), torch.no_grad():
        return in_blocks(model, x).argmax(1)


def _inside(x: Tensor, bounds: tuple[float, float] | None) -> Tensor:
    return x if bounds is None else x.clamp(*bounds)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (x.dim() - 1))


def _check(name: str, radius: float, draws: int, climbs: int) -> None:
    if not radius > 0 or draws < 1 or climbs < 0:
        raise BadOption(f"{name}: radius={radius}, {draws} draws, {climbs} climbs are not allowed")
