"""Variation ratio of the draws."""

import math

from torch import Tensor
from torch.nn.functional import one_hot

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, draws_of
from trustml.detectors._probabilities import entropy, log_mean_probability
from trustml.registry import detector


@detector(source="Freeman 1965; Gal 2016, PhD thesis, section 3.3.1", reads=("draws",))
def variation_ratio(
    model: Classifier, train: Outputs, validation: Outputs, /, *, break_ties: bool = False
) -> Scorer:
    """Score by the share of draws that do not name the commonest class, (B,), in steps of 1/S.

    Args:
        break_ties: order inputs of one ratio by their predictive entropy, added as less than half
            a step.

    Raises:
        NotApplicable: fewer than two draws.
        BadInput: draws that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        draws = draws_of(outputs, least=2)
        count, classes = len(draws), draws.shape[2]
        votes = one_hot(draws.argmax(2), classes).sum(0).amax(1)
        ratio = (count - votes).to(draws) / count
        if not break_ties:
            return ratio
        return ratio + entropy(log_mean_probability(draws)) / (2 * count * math.log(classes))

    return score
