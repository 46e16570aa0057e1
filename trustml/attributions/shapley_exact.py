"""Shapley values by enumeration: every coalition of at most twelve features."""

import math

import torch
from torch import Tensor

from trustml.access import at
from trustml.attributions._calling import MOST_ROWS, at_least, attributing
from trustml.attributions._regions import cells, shared_out
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Access, Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution

MOST_FEATURES = 12


@attribution(
    source="Shapley 1953; Lundberg, Lee 2017, arXiv:1705.07874, eq. 8", needs=Access.LOGITS
)
def shapley_exact(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    grid: int = 3,
) -> Tensor:
    """Return Shapley values (B, *S) over all 2^d coalitions, each shared out over its region.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: what stands where a feature is left out.
        grid: an image is cut into grid by grid regions at most, all channels together.

    Raises:
        BadOption: a grid below 1.
        NotApplicable: more than 12 features.
    """
    at_least("shapley_exact", grid=(grid, 1))
    side = max(x.shape[2:]) if x.dim() == 4 else 1
    regions = cells("shapley_exact", x, math.ceil(side / grid))
    count = int(regions.max()) + 1
    if count > MOST_FEATURES:
        raise NotApplicable(
            f"shapley_exact counts through 2^d coalitions, with d at most {MOST_FEATURES}, and "
            f"these inputs have {count} features: take shapley_sampling, or a smaller grid"
        )
    with attributing("shapley_exact", model, x, target), torch.no_grad():
        zero = baseline_of(baseline, model, x, target, background)
        coalitions = (torch.arange(2**count, device=x.device)[:, None] >> torch.arange(
            count, device=x.device
        )) & 1  # fmt: skip
        values = _worths(model, x, zero, target, coalitions.bool(), regions)
    shapley = values @ _weights(coalitions)
    return shared_out(shapley[:, regions[0]].to(x.dtype), regions)


def _worths(
    model: Classifier, x: Tensor, zero: Tensor, target: Tensor, coalitions: Tensor, regions: Tensor
) -> Tensor:
    """Return the target's logit (B, 2^d) with just the coalition's regions of x in place."""
    present = coalitions[:, regions[0]]
    values = []
    for rows in torch.arange(len(x), device=x.device).split(max(1, MOST_ROWS // len(present))):
        mixed = torch.where(present[:, None], x[rows], zero[rows]).flatten(0, 1)
        logits = at(model, rows)(mixed).view(len(present), len(rows), -1)
        values.append(logits.gather(2, target[rows].expand(len(present), -1)[..., None])[..., 0].T)
    return torch.cat(values).double()


def _weights(coalitions: Tensor) -> Tensor:
    """Return W (2^d, d), float64, with which values @ W are the Shapley values."""
    count = coalitions.shape[1]
    size = coalitions.sum(1)
    order = torch.tensor(
        [
            math.factorial(s) * math.factorial(count - s - 1) / math.factorial(count)
            for s in range(count)
        ],
        dtype=torch.float64,
        device=coalitions.device,
    )
    joined, left = order[(size - 1).clamp_min(0)], order[size.clamp_max(count - 1)]
    return torch.where(coalitions.bool(), joined[:, None], -left[:, None])
