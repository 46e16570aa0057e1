"""Shapley values from random orders."""

import torch
from torch import Tensor

from trustml.attributions._calling import MOST_ROWS, at_least, attributing, seeded
from trustml.attributions._regions import cells, shared_out
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Access, Classifier
from trustml.registry import attribution


@attribution(
    source="Castro et al. 2009, doi:10.1016/j.cor.2008.04.004; Štrumbelj, Kononenko 2010, JMLR 11",
    needs=Access.LOGITS,
)
def shapley_sampling(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    cell: int = 4,
    draws: int = 16,
    seed: int = 0,
) -> Tensor:
    """Return the mean gain of logit (B, *S) as regions are added in random orders.

    The orders are the same for every input. Each order sums to f(x) - f(x₀) by itself.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: what stands where a region is left out.
        cell: side of a region in pixels, all channels together; no images: each entry.
        draws: orders.
        seed: of the orders.

    Raises:
        BadOption: a cell below 1, or no draws.
    """
    from captum.attr import ShapleyValueSampling

    at_least("shapley_sampling", draws=(draws, 1))
    regions = cells("shapley_sampling", x, cell)
    with attributing("shapley_sampling", model, x, target), torch.no_grad(), seeded(seed, x):
        maps = ShapleyValueSampling(model).attribute(
            x,
            baselines=baseline_of(baseline, model, x, target, background),
            target=target,
            feature_mask=regions,
            n_samples=draws,
            perturbations_per_eval=max(1, MOST_ROWS // len(x)),
        )
    return shared_out(maps, regions).to(x.dtype)
