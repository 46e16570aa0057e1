"""Entropy of the mean draw."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, draws_of
from trustml.detectors._probabilities import entropy, log_mean_probability
from trustml.registry import detector


@detector(source="Gal 2016, PhD thesis, section 3.3.1", reads=("draws",))
def predictive_entropy(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by the entropy of the mean probability over draws, (B,), in nats.

    Raises:
        NotApplicable: no draws.
        BadInput: draws that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        return entropy(log_mean_probability(draws_of(outputs, least=1)))

    return score
