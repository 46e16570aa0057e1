"""Margin between the two likeliest classes."""

from typing import Literal

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, logits_of
from trustml.detectors._probabilities import odds_against
from trustml.registry import detector


@detector(source="Scheffer, Decomain & Wrobel 2001, IDA (margin of two classes)", reads=("logits",))
def margin(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    between: Literal["probabilities", "logits"] = "probabilities",
) -> Scorer:
    """Score by how near the second class is to the first, (B,).

    Args:
        between: probabilities give 1 - (p₁ - p₂), from 0 to 1; logits give z₂ - z₁, 0 at most.

    Raises:
        NotApplicable: no logits.
        BadInput: logits that are no numbers.
    """

    def score(outputs: Outputs) -> Tensor:
        logits = logits_of(outputs)
        first, second = logits.topk(2, dim=1).values.unbind(1)
        if between == "logits":
            return second - first
        against = odds_against(logits)
        return (against + (second - first).exp()) / (1 + against)

    return score
