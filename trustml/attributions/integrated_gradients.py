"""Integrated gradients, with as many steps as it takes for the map to sum to the difference."""

import torch
from torch import Tensor

from trustml.access import at
from trustml.attributions._calling import MOST_ROWS, at_least, attributing
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Classifier
from trustml.errors import MethodFailed
from trustml.registry import attribution

_FASTER = 4


@attribution(source="Sundararajan et al. 2017, arXiv:1703.01365, eq. 3")
def integrated_gradients(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    steps: int = 32,
    most_steps: int = 8192,
    bound: float = 0.01,
) -> Tensor:
    """Return (x - x₀) times the mean gradient (B, *S) on the way from the baseline x₀ to x.

    Args:
        model: gives gradients.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: where the way begins.
        steps: points on the way at first; rows that do not sum up get four times as many.
        most_steps: points at which it gives up.
        bound: largest |Σ map - (f(x) - f(x₀))| allowed, as a share of |f(x)| + |f(x₀)|.

    Raises:
        BadOption: steps below 1, or a bound that is not above 0.
        MethodFailed: rows that do not sum up even with `most_steps`.
    """
    at_least("integrated_gradients", steps=(steps, 1), bound=(bound, 1e-7))
    with attributing("integrated_gradients", model, x, target) as start:
        zero = baseline_of(baseline, model, x, target, background)
        with torch.no_grad():
            ends = [model(point).gather(1, target[:, None])[:, 0].double() for point in (x, zero)]
        wanted, allowed = ends[0] - ends[1], bound * (ends[0].abs() + ends[1].abs())
        maps = torch.zeros_like(x)
        rows = torch.arange(len(x), device=x.device)
        while len(rows) and steps <= most_steps:
            maps[rows] = _summed(model, start, zero, target, rows, steps)
            off = (maps[rows].double().flatten(1).sum(1) - wanted[rows]).abs()
            rows = rows[~(off <= allowed[rows])]
            steps *= _FASTER
    if len(rows):
        raise MethodFailed(
            f"integrated_gradients: {len(rows)} of {len(x)} maps do not sum to the difference "
            f"within {bound} after {steps // _FASTER} steps: on the way from the baseline the "
            f"answers change by leaps, as rounded or saturated ones do (the options most_steps and "
            f"bound of integrated_gradients allow more)"
        )
    return maps


def _summed(
    model: Classifier, start: Tensor, zero: Tensor, target: Tensor, rows: Tensor, steps: int
) -> Tensor:
    from captum.attr import IntegratedGradients

    parts = []
    for part in rows.split(max(1, MOST_ROWS // steps)):
        leaf = start[part].detach().requires_grad_()
        method = IntegratedGradients(at(model, part))
        made = method.attribute(
            leaf, zero[part], target=target[part], n_steps=steps, method="riemann_middle"
        )
        parts.append(made.detach())
    return torch.cat(parts).to(start.dtype)
