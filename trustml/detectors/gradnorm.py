"""Size of the gradient of the last layer, in closed form."""

from torch import Tensor

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Scorer, features_of, logits_of, need_between
from trustml.registry import detector


@detector(source="Huang et al. 2021, arXiv:2110.00218, section 3.2", reads=("logits", "features"))
def gradnorm(
    model: Classifier, train: Outputs, validation: Outputs, /, *, temperature: float = 1.0
) -> Scorer:
    """Score by minus the L1 norm, (B,), of the last weight's gradient of KL(uniform ‖ softmax).

    The gradient is the outer product of features and (softmax - 1/K) / T, so its norm is the
    product of theirs and no backward pass is needed.

    Raises:
        NotApplicable: no logits or no features.
        BadInput: outputs that are no numbers.
        BadOption: a temperature that is not above 0.
    """
    need_between("gradnorm", 1e-6, 1e6, temperature=temperature)

    def score(outputs: Outputs) -> Tensor:
        logits, features = logits_of(outputs), features_of(outputs)
        pull = (logits / temperature).softmax(1) - 1 / logits.shape[1]
        return -features.double().abs().sum(1) * pull.abs().sum(1) / temperature

    return score
