"""Expected gradients between the input and training inputs (GradientSHAP)."""

from torch import Tensor

from trustml.attributions._calling import at_least, attributing, one_by_one
from trustml.contracts import Classifier
from trustml.registry import attribution


@attribution(source="Lundberg, Lee 2017, arXiv:1705.07874; Erion et al. 2021, arXiv:1906.10670")
def gradient_shap(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    draws: int = 50,
    noise: float = 0.0,
    seed: int = 0,
) -> Tensor:
    """Return the mean (B, *S) of (x - x₀) times the gradient at random points between.

    The baselines x₀ are drawn from the background, so that in the mean the map sums to the
    difference from its mean logit.

    Args:
        model: gives gradients.
        x: inputs (B, *S).
        target: classes (B,).
        background: training inputs.
        draws: points an input.
        noise: standard deviation of what is added to the input first.
        seed: of the draws.

    Raises:
        BadOption: no draws, or negative noise.
    """
    from captum.attr import GradientShap

    at_least("gradient_shap", draws=(draws, 1), noise=(noise, 0))

    def explain(model: Classifier, row: Tensor, target: Tensor) -> Tensor:
        method = GradientShap(model)
        return method.attribute(
            row, background.to(row), target=target, n_samples=draws, stdevs=noise
        )

    with attributing("gradient_shap", model, x, target):
        return one_by_one(explain, model, x, target, seed=seed)
