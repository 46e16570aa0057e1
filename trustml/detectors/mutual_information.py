"""Mutual information of the answer and the weights."""

from torch import Tensor
from torch.nn.functional import log_softmax

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, draws_of
from trustml.detectors._probabilities import entropy, log_mean_probability
from trustml.registry import detector


@detector(
    source="Houlsby et al. 2011, arXiv:1112.5745 (BALD); Gal 2016, PhD thesis, section 3.3.1",
    reads=("draws",),
)
def mutual_information(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by the entropy of the mean draw minus the mean entropy of the draws, (B,), in nats.

    Raises:
        NotApplicable: fewer than two draws.
        BadInput: draws that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        draws = draws_of(outputs, least=2)
        expected = entropy(log_softmax(draws, dim=2)).mean(0)
        return (entropy(log_mean_probability(draws)) - expected).clamp_min(0)

    return score
