"""Entropy of the class probabilities."""

from torch import Tensor
from torch.nn.functional import log_softmax

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of
from trustml.detectors._probabilities import entropy as entropy_of
from trustml.registry import detector


@detector(source="Shannon 1948; as a score: Gal 2016, PhD thesis, section 3.3.1", reads=("logits",))
def entropy(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by the entropy of the class probabilities in nats, (B,), from 0 to log K.

    Raises:
        NotApplicable: no logits.
        BadInput: logits that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        return entropy_of(log_softmax(logits_of(outputs), dim=1))

    return score
