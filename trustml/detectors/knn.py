"""Distance to the k-th nearest training features."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._neighbours import nearest, need_neighbours, references, unit
from trustml.detectors._parts import Scorer, features_of
from trustml.registry import detector


@detector(source="Sun et al. 2022, arXiv:2204.06507, algorithm 1", reads=("features",))
def knn(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    k: int = 10,
    samples: int | None = 10_000,
) -> Scorer:
    """Score by the distance to the k-th nearest training features, all scaled to length 1, (B,).

    Args:
        k: which neighbour; published for all 50 000 training samples: 50.
        samples: how many training samples to look among, or none for all.

    Raises:
        NotApplicable: no features.
        BadInput: no training outputs, or features that are no numbers.
        BadOption: a k below 1 or above the number of samples, or samples below 1.
    """
    known = references(model, train, samples, normalised=True)
    need_neighbours("knn", k, known)

    def score(outputs: Outputs) -> Tensor:
        return nearest(unit(features_of(outputs).float()), known, k)[:, -1]

    return score
