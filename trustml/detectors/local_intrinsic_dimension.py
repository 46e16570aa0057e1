"""Local intrinsic dimension of the training features around an input."""

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._neighbours import nearest, need_neighbours, references
from trustml.detectors._parts import Scorer, features_of
from trustml.registry import detector


@detector(
    source="Ma et al. 2018, arXiv:1801.02613, equation 4; Amsaleg et al. 2015 (estimator)",
    reads=("features",),
)
def local_intrinsic_dimension(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    k: int = 20,
    samples: int | None = 10_000,
) -> Scorer:
    """Score by the dimension, (B,), in which neighbours grow denser: -1 / mean log(rᵢ / rₖ).

    The published detector looks among the other inputs of a batch and at every layer; here it is
    the training features, so that a score does not depend on who shares the batch. Where all k
    neighbours are equally far, or at the same place, nothing can be estimated: there it is 0.

    Args:
        k: neighbours.
        samples: how many training samples to look among, or none for all.

    Raises:
        NotApplicable: no features.
        BadInput: no training outputs, or features that are no numbers.
        BadOption: a k below 2 or above the number of samples, or samples below 1.
    """
    known = references(model, train, samples)
    need_neighbours("local_intrinsic_dimension", k, known, least=2)

    def score(outputs: Outputs) -> Tensor:
        distances = nearest(features_of(outputs), known, k).double()
        last = distances[:, -1:]
        # A neighbour at the very place of the input counts as just above 0.
        ratios = (distances / last).clamp_min(torch.finfo(torch.float32).tiny)
        mean = ratios.log().mean(1)
        return torch.where(mean < 0, -1 / mean, 0.0)

    return score
