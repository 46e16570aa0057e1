"""The temperature of least cross-entropy."""

import math

from trustml.contracts import Outputs
from trustml.detectors._parts import logits_of, need_rows

COOLEST, HOTTEST = 1e-3, 1e3
HALVINGS = 60


def least_loss(outputs: Outputs) -> float:
    """Return the T of least mean cross-entropy of logits / T, from 0.001 to 1000.

    The loss is convex in 1/T, so its slope changes sign once. Where every answer is right the
    loss falls for ever as T does: then T is 0.001.

    Raises:
        NotApplicable: no logits.
        BadInput: no outputs, or logits that are no numbers.
    """
    need_rows(outputs, "validation")
    logits = logits_of(outputs)
    true = logits.gather(1, outputs.y[:, None])[:, 0]
    low, high = math.log(1 / HOTTEST), math.log(1 / COOLEST)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        expected = ((math.exp(middle) * logits).softmax(1) * logits).sum(1)
        if bool((expected - true).sum() > 0):
            high = middle
        else:
            low = middle
    return min(max(math.exp(-0.5 * (low + high)), COOLEST), HOTTEST)
