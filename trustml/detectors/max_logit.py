"""Maximum logit."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of
from trustml.registry import detector


@detector(source="Hendrycks et al. 2022, arXiv:1911.11132, section 3", reads=("logits",))
def max_logit(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by minus the greatest logit, (B,).

    Raises:
        NotApplicable: no logits.
        BadInput: logits that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        return -logits_of(outputs).amax(1)

    return score
