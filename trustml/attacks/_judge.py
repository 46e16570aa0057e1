"""The judge of attacks that see scores: asks about points, and keeps each sample's best."""

import torch
from torch import Tensor

from trustml.access import at
from trustml.attacks._answers import scored, still_open
from trustml.attacks._losses import LossName
from trustml.contracts import Classifier, Threat
from trustml.errors import BadOption
from trustml.geometry import diameter, pull


class Judge:
    """Says how high the loss of points is; `best` (B, *S) are the highest so far.

    All samples that are still searched ask equally often, so one count of what is `left` will do.
    """

    def __init__(
        self, model: Classifier, x: Tensor, y: Tensor, threat: Threat, queries: int, loss: LossName
    ) -> None:
        """Ask about the inputs as they are; a budget of 0 leaves nothing to look for."""
        self._model, self._x, self._y, self._threat, self._loss = model, x, y, threat, loss
        self.best, self.left = x.clone(), queries
        self.highest = x.new_full((len(x),), -torch.inf)
        self(x, torch.arange(len(x), device=x.device))
        self.highest[_budgets(x, threat) == 0] = torch.inf

    def __call__(self, points: Tensor, rows: Tensor, *, keep: bool = True) -> Tensor:
        """Return the losses (k, B') of points (k · B', *S) of samples `rows` (B',), in k turns.

        Points that may lie outside the ball are not to be kept.
        """
        times = len(points) // len(rows)
        self.left -= times
        y = self._y[rows].repeat(times)
        losses = scored(at(self._model, rows), points, y, self._threat, self._loss)
        losses = losses.view(times, -1)
        if not keep:
            return losses
        for several, point in zip(
            losses, points.view(times, len(rows), *points.shape[1:]), strict=True
        ):
            # NaN stays, so that the next look at the losses finds it.
            better = (several > self.highest[rows]) | several.isnan()
            self.best[rows[better]] = point[better]
            self.highest[rows[better]] = several[better]
        return losses

    def going(self, rows: Tensor, queries: int) -> Tensor:
        """Return the places among `rows` of those not won; none where fewer queries are left."""
        left = still_open(self.highest[rows])
        return left if self.left >= queries else left[:0]

    def pulled(self, points: Tensor, rows: Tensor) -> Tensor:
        """Return points (k · B', *S) in the balls of samples `rows` (B',), k times over."""
        rows = rows.repeat(len(points) // len(rows))
        x, threat = self._x[rows], self._threat.at(rows)
        return pull(points, x, threat.norm, threat.budget(x), (threat.low, threat.high))


def reach(x: Tensor, threat: Threat) -> Tensor:
    """Return how far each sample may go (B,): epsilon, but never farther than the box is wide."""
    widest = diameter(threat.norm, threat.high - threat.low, x[0].numel())
    return _budgets(x, threat).clamp(max=widest).to(x.dtype)


def _budgets(x: Tensor, threat: Threat) -> Tensor:
    return threat.budget(x).expand(len(x), *[1] * (x.dim() - 1)).reshape(-1)


def check_counts(attack: str, **counts: int) -> None:
    """Check options that are counts.

    Raises:
        BadOption: one is below 1.
    """
    for name, count in counts.items():
        if count < 1:
            raise BadOption(f"{attack}: {name}={count} must be 1 or more")


def check_sizes(attack: str, **sizes: float) -> None:
    """Check options that are lengths.

    Raises:
        BadOption: one is not above 0, or not finite.
    """
    for name, size in sizes.items():
        if not 0 < size < float("inf"):
            raise BadOption(f"{attack}: {name}={size} must be above 0 and finite")
