"""Trust score: nearness of another class against that of the answered one."""

import torch
from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._neighbours import References, class_distances, references
from trustml.detectors._parts import Scorer, features_of, logits_of
from trustml.errors import NotApplicable
from trustml.registry import detector


@detector(source="Jiang et al. 2018, arXiv:1805.11783, section 3", reads=("logits", "features"))
def trust_score(
    model: Classifier, train: Outputs, validation: Outputs, /, *, samples: int | None = None
) -> Scorer:
    """Score by d / (d + d'), (B,), d the distance to the answered class and d' to any other.

    The published score is d'/d, high where the answer can be trusted: this is its order upside
    down, from 0 to 1. No reference is filtered out (alpha = 0).

    Args:
        samples: how many training samples to look among, or none for all: fewer see less.

    Raises:
        NotApplicable: no logits, no features, or training labels of one class.
        BadInput: no training outputs, or outputs that are no numbers.
        BadOption: a number of samples below 1.
    """
    known = class_references(model, train, samples)

    def score(outputs: Outputs) -> Tensor:
        return torch.sigmoid(-log_trust(outputs, known))

    return score


def class_references(model: Classifier, train: Outputs, count: int | None) -> References:
    """Return the training features to look among.

    Raises:
        NotApplicable: all are of one class, or there are no features.
        BadInput: no training outputs, or features that are no numbers.
        BadOption: a count below 1.
    """
    known = references(model, train, count)
    if bool((known.y == known.y[0]).all()):
        raise NotApplicable(
            "the training labels are all of one class: there is no other to be near"
        )
    return known


def log_trust(outputs: Outputs, known: References) -> Tensor:
    """Return the log (B,) of the published score, in float64.

    An answer that is no class of the references counts as infinitely far from its class: -1000
    stands for that, so that what is computed from it stays finite.
    """
    answered = logits_of(outputs).argmax(1)
    own, other = class_distances(features_of(outputs), known, answered)
    # Where both are 0, on top of a reference of either class, it is a draw.
    least = torch.finfo(torch.float32).tiny
    return (other.double().clamp_min(least) / own.double().clamp_min(least)).log().clamp_min(-1000)
