"""How many explanations give a model away: with them, and with the same number of plain answers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.benchmarks.explained import Explain
from trustml.contracts import Classifier, Score
from trustml.errors import BadInput, BadOption
from trustml.metrics import proportion

_RIDGE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Leak:
    """Agreement on fresh inputs of copies made from so many queries, the best of two thieves'.

    `explained` saw explanations with the logits, `answered` the logits alone. Higher agreement is
    better for the thief, so worse for the owner. `hits` (M,) are the fresh inputs on which the
    copy from the most explanations agrees.
    """

    queries: tuple[int, ...]
    explained: tuple[Score, ...]
    answered: tuple[Score, ...]
    hits: Tensor

    def queries_to(self, agreement: float, *, explained: bool = True) -> int | None:
        """Return the first number of queries that reached the agreement, or None."""
        scores = self.explained if explained else self.answered
        reached = [q for q, s in zip(self.queries, scores, strict=True) if s.value >= agreement]
        return reached[0] if reached else None


def leak(
    model: Classifier,
    explain: Explain,
    pool: Tensor,
    fresh: Tensor,
    *,
    influence: bool,
    points: tuple[int, ...] = (1, 2, 5, 10, 20, 50),
) -> Leak:
    """Return what thieves learn who ask for explanations of every class at points of the pool.

    Each explanation of one class is one query, so a point costs K. An influence is taken for the
    slope of its class's logit; an attribution is divided by the input first (by the distance from
    black). One thief takes the mean slope for the whole model, the other the slope at the nearest
    asked point. Without explanations: least squares on the logits, or the nearest point's answer.

    Args:
        model: gives logits.
        explain: (x, target) → maps.
        pool: inputs (N, *S) that the thief owns; each is asked about once.
        fresh: inputs (M, *S) on which copies are compared with the model.
        influence: whether the maps live in gradient space.
        points: numbers of points asked.

    Raises:
        BadInput: a pool that is smaller than the largest number of queries, or nothing fresh.
        BadOption: no points.
    """
    if not points or min(points) < 1:
        raise BadOption(f"leak: points={points} must be 1 or more")
    with frozen(model), torch.no_grad():
        truth = in_blocks(model, fresh).argmax(1) if len(fresh) else fresh
        classes = in_blocks(model, pool[:1]).shape[1]
    most = max(points) * classes
    if len(pool) < most or not len(fresh):
        raise BadInput(
            f"leak: {max(points)} points of {classes} classes each are {most} queries, and the "
            f"pool has {len(pool)} inputs, of which plain answers need one each"
        )
    with frozen(model), torch.no_grad():
        logits = in_blocks(model, pool[:most]).double()
    slopes = _slopes(explain, pool[: max(points)], classes, influence)
    known, new = pool[:most].flatten(1).double(), fresh.flatten(1).double()
    with_maps, without = [], []
    hits = torch.zeros(len(truth), device=truth.device)
    for count in sorted(points):
        asked = count * classes
        seen = known[:count], logits[:count], slopes[:count], new
        hits = _best((_one_plane(*seen), _nearest_plane(*seen)), truth)
        with_maps.append(proportion(int(hits.sum()), len(truth)))
        plain = (
            _least_squares(known[:asked], logits[:asked], new),
            logits[torch.cdist(new, known[:asked]).argmin(1)],
        )
        without.append(proportion(int(_best(plain, truth).sum()), len(truth)))
    counts = tuple(count * classes for count in sorted(points))
    return Leak(counts, tuple(with_maps), tuple(without), hits)


def _slopes(explain: Explain, x: Tensor, classes: int, influence: bool) -> Tensor:
    """Return the slope of every class's logit at every point, (N, K, D)."""
    wanted = torch.arange(classes, device=x.device).repeat(len(x))
    maps = explain(x.repeat_interleave(classes, 0), wanted).double().flatten(1)
    maps = maps.view(len(x), classes, -1)
    if influence:
        return maps
    inputs = x.double().flatten(1)[:, None]
    return torch.where(inputs.abs() > 1e-6, maps / inputs, 0.0)


def _one_plane(known: Tensor, logits: Tensor, slopes: Tensor, new: Tensor) -> Tensor:
    weight = slopes.mean(0)
    return new @ weight.T + (logits - known @ weight.T).mean(0)


def _nearest_plane(known: Tensor, logits: Tensor, slopes: Tensor, new: Tensor) -> Tensor:
    near = torch.cdist(new, known).argmin(1)
    offsets = logits - torch.einsum("nkd,nd->nk", slopes, known)
    answers = torch.empty(len(new), logits.shape[1], dtype=torch.float64, device=new.device)
    for point in near.unique():
        rows = near == point
        answers[rows] = new[rows] @ slopes[point].T + offsets[point]
    return answers


def _least_squares(known: Tensor, logits: Tensor, new: Tensor) -> Tensor:
    """Return what the plane of least norm through the logits says."""
    middle, level = known.mean(0), logits.mean(0)
    away = known - middle
    inner = away @ away.T
    inner = inner + _RIDGE * (inner.diagonal().mean() + 1) * torch.eye(len(inner)).to(inner)
    return (new - middle) @ away.T @ torch.linalg.solve(inner, logits - level) + level


def _best(answers: tuple[Tensor, ...], truth: Tensor) -> Tensor:
    """Return where the better thief agrees (M,), as 0 and 1."""
    return max(
        ((a.argmax(1) == truth).double() for a in answers), key=lambda hits: float(hits.sum())
    )
