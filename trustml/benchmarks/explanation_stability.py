"""Does an explanation stand still? Maximum sensitivity, and stability under attack."""

from dataclasses import replace

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.benchmarks.explained import Explain, generator, places
from trustml.benchmarks.explanation_attack import Gain, Score, Search, climb, like, slope_of, walk
from trustml.benchmarks.explanation_scores import Measured, mean_of
from trustml.contracts import Classifier
from trustml.errors import BadOption, NotApplicable

# Rows to one call of the method: what a processor's cache holds, or what fills a graphics card.
_CPU_ROWS, _GPU_ROWS = 256, 2048
# What is said of maps that explain nothing.
EMPTY = "every map is zero everywhere"


def max_sensitivity(
    explain: Explain,
    x: Tensor,
    target: Tensor,
    *,
    radius: float = 0.02,
    draws: int = 10,
    climbs: int = 0,
    stand_in: Explain | None = None,
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
        climbs: further moves: half of them along the stand-in's gradient if there is one, the
            others flip squares to the ball's corners; with 0, the sampled figure of the literature.
        stand_in: (x, target) → maps with a graph, such as `smooth_stand_in`.
        bounds: box that the moved inputs stay in.
        seed: of the moves.

    Raises:
        BadOption: a radius not above 0, or no draws.
    """
    _check("max_sensitivity", radius, draws, climbs)
    search = Search(x, radius, bounds, seed)
    still = explain(x, target).double().flatten(1)
    # A map of zeros has no relative change.
    size = still.norm(dim=1)
    size = torch.where(size > 0, size, torch.nan)

    def changed(candidate: Tensor) -> Tensor:
        maps = explain(candidate, target).double().flatten(1)
        return (maps - still).norm(dim=1) / size

    def gaps(group: Tensor) -> Tensor:
        maps = explain(search.moved(group[:, None]).flatten(0, 1), target.repeat(len(group)))
        return (maps.double().view(len(group), len(x), -1) - still).norm(dim=2) / size

    move, best = _drawn(search, gaps, draws)
    if not climbs:
        return mean_of(best, "lower")

    def distance(moved: Tensor, rows: slice) -> Tensor:
        assert stand_in is not None
        before = stand_in(x[rows].detach().requires_grad_(), target[rows]).detach()
        return (stand_in(moved, target[rows]) - before).flatten(1).square().sum(1)

    best, note = _attacked(search, changed, stand_in and distance, move, best, climbs)
    return replace(mean_of(best, "lower"), note=note)


def stability_under_attack(
    model: Classifier,
    explain: Explain,
    x: Tensor,
    target: Tensor,
    *,
    radius: float = 0.05,
    climbs: int = 40,
    top: float = 0.1,
    stand_in: Explain | None = None,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
) -> Measured:
    """Return the least share (B,) of the most important places that an attacker leaves in place.

    It moves every entry by at most `radius`, in such a way that the answer stays (Ghorbani et al.
    2019, arXiv:1710.10547, the top-k attack). Whatever led to a move, the method's own map after
    it decides. A stronger attacker may find less. Undefined where the map is zero everywhere.

    Args:
        model: whose answer must stay.
        explain: (x, target) → maps.
        x: inputs (B, *S).
        target: classes (B,).
        radius: how far each entry may move.
        climbs: moves tried: half of them along the stand-in's gradient, if there is one.
        top: share of places that counts as the most important.
        stand_in: (x, target) → maps with a graph, such as `smooth_stand_in`.
        bounds: box that the moved inputs stay in.
        seed: of the moves.

    Raises:
        BadOption: a radius not above 0, no moves, or a share outside (0, 1).
        NotApplicable: every map is zero everywhere.
    """
    _check("stability_under_attack", radius, climbs, climbs)
    if not 0 < top < 1:
        raise BadOption(f"stability_under_attack: top={top} must lie between 0 and 1")
    still = places(explain(x, target).double())
    nothing = _empty(still)
    count = max(1, round(top * still.shape[1]))
    wanted = torch.zeros_like(still).scatter_(1, still.topk(count, 1).indices, 1.0)
    answer = _answers(model, x)

    def displaced(candidate: Tensor) -> Tensor:
        maps = places(explain(candidate, target).double())
        share = wanted.gather(1, maps.topk(count, 1).indices).mean(1)
        return torch.where(_answers(model, candidate) == answer, 1 - share, -1.0)

    def elsewhere(moved: Tensor, rows: slice) -> Tensor:
        assert stand_in is not None
        maps = places(stand_in(moved, target[rows]))
        return -(maps * wanted[rows].to(maps)).sum(1) / maps.abs().sum(1).clamp_min(1e-12)

    best = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    search = Search(x, radius, bounds, seed)
    start = torch.zeros_like(x)
    best, note = _attacked(search, displaced, stand_in and elsewhere, start, best, climbs)
    return replace(mean_of(torch.where(nothing, torch.nan, 1 - best), "higher"), note=note)


def _drawn(search: Search, gaps: Gain, draws: int) -> tuple[Tensor, Tensor]:
    """Return the uniform move (B, *S) that changes each map most, and by how much (B,).

    Args:
        search: where to look.
        gaps: moves (N, *S) → the change of every map (N, B).
        draws: moves, the same for every input.
    """
    x, draw = search.x, generator(search.seed)
    noise = search.radius * (2 * torch.rand(draws, *x.shape[1:], generator=draw) - 1)
    best = torch.full((len(x),), -1.0, dtype=torch.float64, device=x.device)
    move = torch.zeros_like(x)
    together = _CPU_ROWS if x.device.type == "cpu" else _GPU_ROWS
    for group in noise.to(x).split(max(1, together // len(x))):
        most = gaps(group).max(0)
        better = ~(most.values <= best)
        best = torch.where(better, most.values, best)
        move = torch.where(like(better, x), group[most.indices], move)
    return move, best


def _attacked(
    search: Search, gain: Gain, score: Score | None, move: Tensor, best: Tensor, climbs: int
) -> tuple[Tensor, str]:
    """Return the gain (B,) that is reached by slopes, if there are any, then by trial; and how."""
    steps, slid, at_first = 0, best, best
    if score is not None:
        move, slid, went = walk(search, gain, slope_of(score), move, best, climbs // 2)
        steps = climbs // 2 if went else 0
    _, best = climb(search, gain, move, slid, climbs - steps)
    if not steps:
        return best, f"attacked by {climbs} tried moves, without a gradient"
    won = int(((slid == best) & (best > at_first)).sum())
    return best, (
        f"attacked by {steps} steps along a softened copy's gradient, the worst for {won} of "
        f"{len(best)}, and {climbs - steps} tried moves"
    )


def _empty(maps: Tensor) -> Tensor:
    """Return which maps (B, P) are zero everywhere.

    Raises:
        NotApplicable: all of them.
    """
    nothing = (maps == 0).all(1)
    if bool(nothing.all()):
        raise NotApplicable(f"{EMPTY}: there is nothing that could be moved")
    return nothing


def _answers(model: Classifier, x: Tensor) -> Tensor:
    """Return the classes (B,) that the model chooses."""
    with frozen(model), torch.no_grad():
        return in_blocks(model, x).argmax(1)


def _check(name: str, radius: float, draws: int, climbs: int) -> None:
    if not radius > 0 or draws < 1 or climbs < 0:
        raise BadOption(f"{name}: radius={radius}, {draws} draws, {climbs} climbs are not allowed")
