"""KernelSHAP: Shapley values as a weighted linear regression."""

import torch
from torch import Tensor

from trustml.attributions._calling import at_least, attributing, one_by_one
from trustml.attributions._regions import cells, shared_out
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Access, Classifier
from trustml.errors import NotApplicable
from trustml.registry import attribution


@attribution(source="Lundberg, Lee 2017, arXiv:1705.07874, §4.1", needs=Access.LOGITS)
def kernel_shap(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    cell: int = 4,
    draws: int = 400,
    seed: int = 0,
) -> Tensor:
    """Return estimated Shapley values (B, *S) of the regions, shared out over their entries.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: what stands where a region is left out.
        cell: side of a region in pixels, all channels together; no images: each entry.
        draws: coalitions an input.
        seed: of the coalitions.

    Raises:
        BadOption: a cell below 1, or fewer than 3 draws.
        NotApplicable: a single region.
    """
    from captum.attr import KernelShap

    at_least("kernel_shap", draws=(draws, 3))
    regions = cells("kernel_shap", x, cell)
    if int(regions.max()) < 1:
        raise NotApplicable(f"kernel_shap: cell={cell} makes the whole input one region: lower it")
    with attributing("kernel_shap", model, x, target), torch.no_grad():
        zero = baseline_of(baseline, model, x, target, background)

        def explain(model: Classifier, pair: Tensor, target: Tensor) -> Tensor:
            with torch.no_grad():
                return KernelShap(model).attribute(
                    pair[:, 0], pair[:, 1], target=target, feature_mask=regions, n_samples=draws,
                    perturbations_per_eval=draws,
                )  # fmt: skip

        maps = one_by_one(explain, model, torch.stack([x, zero], 1), target, seed=seed)
    return shared_out(maps, regions)
