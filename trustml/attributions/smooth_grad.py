"""The mean gradient under noise (SmoothGrad)."""

from torch import Tensor

from trustml.attributions._calling import at_least, attributing, one_by_one
from trustml.contracts import Classifier
from trustml.registry import attribution


@attribution(source="Smilkov et al. 2017, arXiv:1706.03825, eq. 1", influence=True)
def smooth_grad(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    draws: int = 50,
    noise: float = 0.15,
    seed: int = 0,
) -> Tensor:
    """Return the mean gradient (B, *S) over `draws` noisy copies of the input.

    Args:
        model: gives gradients.
        x: inputs (B, *S).
        target: classes (B,).
        background: not used.
        draws: noisy copies an input.
        noise: standard deviation of the noise, as a share of the input's own range.
        seed: of the noise.

    Raises:
        BadOption: no draws, or negative noise.
    """
    from captum.attr import NoiseTunnel, Saliency

    at_least("smooth_grad", draws=(draws, 1), noise=(noise, 0))

    def explain(model: Classifier, row: Tensor, target: Tensor) -> Tensor:
        deviation = noise * float(row.detach().max() - row.detach().min())
        method = NoiseTunnel(Saliency(model))
        return method.attribute(
            row, nt_type="smoothgrad", nt_samples=draws, stdevs=deviation, target=target, abs=False
        )

    with attributing("smooth_grad", model, x, target):
        return one_by_one(explain, model, x, target, seed=seed)
