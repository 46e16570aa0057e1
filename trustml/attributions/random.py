"""A map of random numbers: the row that every explanation must beat."""

from torch import Tensor

from trustml.attributions._noise import noise_like
from trustml.contracts import Access, Classifier
from trustml.registry import attribution


@attribution(source="Reference row: standard normal, no look at the model", needs=Access.LABELS)
def random(
    model: Classifier, x: Tensor, target: Tensor, background: Tensor, /, *, seed: int = 0
) -> Tensor:
    """Return standard normal numbers (B, *S) that depend on the input's bits and the seed only."""
    return noise_like(x, seed)
