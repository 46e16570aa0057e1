"""Temperature scaling: logits divided by one number."""

from dataclasses import replace

from trustml.contracts import Classifier, Outputs
from trustml.detectors._parts import Change, logits_of, need_between
from trustml.detectors._temperature import COOLEST, HOTTEST, least_loss
from trustml.registry import detector


@detector(
    source="Guo et al. 2017, arXiv:1706.04599, section 4.2", reads=("logits",), front_end="mcp"
)
def temperature(
    model: Classifier, train: Outputs, validation: Outputs, /, *, value: float | None = None
) -> Change:
    """Return outputs whose logits (B, K), and draws, are divided by the temperature.

    Args:
        value: the temperature; none is the one of least cross-entropy on the validation outputs.

    Raises:
        NotApplicable: no logits.
        BadInput: no validation outputs to fit it to, or logits that are no numbers.
        BadOption: a value outside 0.001 to 1000.
    """
    if value is None:
        value = least_loss(validation)
    need_between("temperature", COOLEST, HOTTEST, value=value)
    degrees = value

    def change(outputs: Outputs) -> Outputs:
        logits_of(outputs)
        draws = None if outputs.draws is None else outputs.draws / degrees
        return replace(outputs, logits=outputs.logits / degrees, draws=draws)

    return change
