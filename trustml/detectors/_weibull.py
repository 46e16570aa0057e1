"""Weibull distributions of greatest distances, fitted by maximum likelihood."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Distances are shifted so that the least of a tail is this, as the published code does; the fit is
# then, but for a ten-thousandth, one of the double exponential, whatever the distances' unit.
SHIFT = 1e4
HALVINGS = 80
SHAPES = (1.0, 1e12)


@dataclass(frozen=True, slots=True, eq=False)
class Weibulls:
    """One distribution a class: 1 - exp(-((d - start) / scale)^shape), all (K,)."""

    start: Tensor
    scale: Tensor
    shape: Tensor

    def cdf(self, distances: Tensor) -> Tensor:
        """Return the probability (B, K) of a lesser distance; 1 for classes without a fit."""
        ratio = ((distances - self.start) / self.scale).clamp_min(0)
        return torch.where(self.shape > 0, 1 - (-(ratio**self.shape)).exp(), 1.0)


def fit_weibulls(tails: list[Tensor]) -> Weibulls:
    """Return the distribution of each class's greatest distances; an empty tail has none."""
    fits = [_fit(tail) for tail in tails]
    start, scale, shape = torch.tensor(fits, dtype=torch.float64).unbind(1)
    device = tails[0].device
    return Weibulls(start.to(device), scale.to(device), shape.to(device))


def _fit(tail: Tensor) -> tuple[float, float, float]:
    """Return start, scale and shape of greatest likelihood; shape 0 for an empty tail."""
    if not len(tail):
        return 0.0, 1.0, 0.0
    start = float(tail.min()) - SHIFT
    logs = (tail - start).log()
    top = logs.max()
    low, high = SHAPES
    # The likelihood's slope in the shape has one sign change. Equal distances have none: then the
    # shape is the greatest, and the distribution a step.
    for _ in range(HALVINGS):
        shape = (low * high) ** 0.5
        share = (shape * (logs - top)).softmax(0)
        if float((share * logs).sum() - logs.mean()) < 1 / shape:
            low = shape
        else:
            high = shape
    mean = (shape * (logs - top)).exp().mean().log() / shape
    return start, float((mean + top).exp()), shape
