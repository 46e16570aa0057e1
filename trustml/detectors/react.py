"""ReAct: features clipped where training features seldom are."""

import numpy as np

from trustml.contracts import Classifier, Outputs
from trustml.detectors._head import last_layer
from trustml.detectors._parts import Change, features_of, need_between, need_rows
from trustml.registry import detector


@detector(
    source="Sun et al. 2021, arXiv:2111.12797, equation 2",
    reads=("logits", "features"),
    front_end="energy",
)
def react(
    model: Classifier, train: Outputs, validation: Outputs, /, *, percentile: float = 90.0
) -> Change:
    """Return outputs whose features (B, D) are clipped from above, with the logits of these.

    Args:
        percentile: of all training features, in percent; what is greater becomes that.

    Raises:
        NotApplicable: no features, or a last layer that is not linear.
        BadInput: no training outputs, or outputs that are no numbers.
        BadOption: a percentile outside 0 to 100.
    """
    need_between("react", 0, 100, percentile=percentile)
    need_rows(train, "training")
    head = last_layer(model, train, validation)
    highest = float(np.percentile(features_of(train).float().cpu().numpy(), percentile))

    def change(outputs: Outputs) -> Outputs:
        return head.after(outputs, features_of(outputs).float().clamp_max(highest))

    return change
