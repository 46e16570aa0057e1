"""LIME: a linear model around the input, over regions present or absent."""

import torch
from torch import Tensor

from trustml.attributions._calling import at_least, attributing, one_by_one
from trustml.attributions._regions import cells, shared_out
from trustml.baselines import Baseline, baseline_of
from trustml.contracts import Access, Classifier
from trustml.registry import attribution


@attribution(source="Ribeiro et al. 2016, arXiv:1602.04938, eq. 2", needs=Access.LOGITS)
def lime(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    baseline: Baseline = "zero",
    cell: int = 4,
    draws: int = 400,
    penalty: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Return the regions' coefficients (B, *S), shared out over their entries.

    Each region is present or absent by a coin; samples near the input weigh more.

    Args:
        model: gives logits.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        baseline: what stands where a region is absent.
        cell: side of a region in pixels, all channels together; no images: each entry.
        draws: samples an input.
        penalty: of the lasso; 0 is plain least squares.
        seed: of the samples.

    Raises:
        BadOption: a cell below 1, fewer than 2 draws, or a negative penalty.
    """
    from captum._utils.models.linear_model import SkLearnLasso, SkLearnLinearRegression
    from captum.attr import Lime

    at_least("lime", draws=(draws, 2), penalty=(penalty, 0))
    regions = cells("lime", x, cell)
    with attributing("lime", model, x, target), torch.no_grad():
        zero = baseline_of(baseline, model, x, target, background)

        def explain(model: Classifier, pair: Tensor, target: Tensor) -> Tensor:
            surrogate = SkLearnLasso(alpha=penalty) if penalty else SkLearnLinearRegression()
            with torch.no_grad():
                return Lime(model, interpretable_model=surrogate).attribute(
                    pair[:, 0], pair[:, 1], target=target, feature_mask=regions, n_samples=draws,
                    perturbations_per_eval=draws,
                )  # fmt: skip

        maps = one_by_one(explain, model, torch.stack([x, zero], 1), target, seed=seed)
    return shared_out(maps, regions)
