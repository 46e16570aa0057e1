"""SCALE: features multiplied by how much of their sum is in the largest."""

from trustml.contracts import Classifier, Outputs
from trustml.detectors._head import last_layer
from trustml.detectors._parts import Change, features_of, need_between
from trustml.detectors._shaping import growth, largest, need_activations
from trustml.registry import detector


@detector(
    source="Xu et al. 2024, arXiv:2310.00227, equations 5 and 6",
    reads=("logits", "features"),
    front_end="energy",
)
def scale(
    model: Classifier, train: Outputs, validation: Outputs, /, *, percentile: float = 85.0
) -> Change:
    """Return outputs whose features (B, D) grow by exp(Σ all / Σ largest), with their logits.

    Args:
        percentile: how many of a sample's features are not among the largest, in percent.

    Raises:
        NotApplicable: no features, some below 0, or a last layer that is not linear.
        BadInput: outputs that are no numbers.
        BadOption: a percentile outside 0 to 100.
    """
    need_between("scale", 0, 100, percentile=percentile)
    need_activations("scale", train)
    head = last_layer(model, train, validation)

    def change(outputs: Outputs) -> Outputs:
        features = features_of(outputs).float()
        grown = features * growth(features, largest(features, percentile))
        return head.after(outputs, grown)

    return change
