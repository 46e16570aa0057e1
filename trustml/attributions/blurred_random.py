"""A map of blurred random numbers: the row that shows what smoothness alone is worth."""

from torch import Tensor

from trustml.attributions._calling import at_least
from trustml.attributions._noise import noise_like
from trustml.baselines import blurred
from trustml.contracts import Access, Classifier
from trustml.registry import attribution


@attribution(source="Reference row: blurred noise, no look at the model", needs=Access.LABELS)
def blurred_random(
    model: Classifier,
    x: Tensor,
    target: Tensor,
    background: Tensor,
    /,
    *,
    sigma: float = 2.0,
    seed: int = 0,
) -> Tensor:
    """Return normal noise under a Gaussian of `sigma` pixels (B, C, H, W), of variance 1 again.

    Raises:
        BadOption: a sigma below 0.3.
        NotApplicable: the inputs are no images.
    """
    at_least("blurred_random", sigma=(sigma, 0.3))
    maps = blurred(noise_like(x, seed), sigma)
    return maps / maps.flatten(1).std(1).clamp_min(1e-12).view(-1, *[1] * (x.dim() - 1))
