"""Maximum class probability."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of
from trustml.detectors._probabilities import doubt
from trustml.registry import detector


@detector(source="Hendrycks & Gimpel 2017, arXiv:1610.02136", reads=("logits",))
def mcp(model: Classifier, train: Outputs, validation: Outputs, /) -> Scorer:
    """Score by one minus the highest class probability, (B,).

    Raises:
        NotApplicable: no logits.
        BadInput: logits that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        return doubt(logits_of(outputs))

    return score
