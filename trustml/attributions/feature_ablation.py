"""Feature ablation: what the class's logit loses without one region."""

import torch
from torch import Tensor

from trustml.attributions._calling import MOST_ROWS, attributing
from trustml.attributions._regions import cells, shared_out
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Access, Classifier
from trustml.registry import attribution


@attribution(source="Li et al. 2016, arXiv:1612.08220, §3", needs=Access.LOGITS)
def feature_ablation(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    cell: int = 2,
) -> Tensor:
    """Return the loss of logit (B, *S) when a cell is set to the baseline, over its entries.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: what is put in a region's place.
        cell: side of a region in pixels, all channels together; no images: each entry.

    Raises:
        BadOption: a cell below 1.
    """
    from captum.attr import FeatureAblation

    regions = cells("feature_ablation", x, cell)
    with attributing("feature_ablation", model, x, target), torch.no_grad():
        maps = FeatureAblation(model).attribute(
            x,
            baselines=baseline_of(baseline, model, x, target, background),
            target=target,
            feature_mask=regions,
            perturbations_per_eval=max(1, MOST_ROWS // len(x)),
        )
    return shared_out(maps, regions).to(x.dtype)
