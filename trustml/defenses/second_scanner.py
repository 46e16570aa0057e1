"""Two scanners over the same mail: do they see the same?"""

from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen, in_blocks
from trustml.contracts import Classifier, Random, Split
from trustml.defenses._watching import Scan, Watch, check_validation, one_stream, scanned
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="N-version comparison: Avizienis 1985, IEEE Trans. Software Eng. 11",
    stage="monitoring",
    beaten_by="tampering with both scanners alike, or changing pixels less than their noise",
    does_not_stop="what is on the envelope itself: both see it",
)
def second_scanner(
    model: Classifier,
    validation: Split,
    /,
    *,
    random: Random,
    noise: float = 0.02,
    compares: Literal["pixels", "answers"] = "pixels",
) -> Watch:
    """Return the watch that scans each item a second time, elsewhere: how far apart they are, (N,).

    Args:
        model: whose answers are compared, if they are.
        validation: says what the box is.
        random: draws the noise of both scans.
        noise: standard deviation of each scanner's own noise, in units of the box: no two scans are
            the same.
        compares: "pixels" by their distance (L2, in units of the noise that is expected), or
            "answers" by the Jensen-Shannon divergence of the probabilities: what changes no
            answer is no alarm.

    Raises:
        BadOption: a noise below 0.
        BadInput: no validation sample.
    """
    if not noise >= 0:
        raise BadOption(f"second_scanner: noise={noise:g} is not allowed: 0 or more")
    check_validation("second_scanner", validation, 1)
    stream, low, side = one_stream(random), validation.low, validation.high - validation.low

    def seen(x: Tensor, which: str) -> Tensor:
        drawn = stream.normal(tuple(x.shape), f"noise of the {which} scanner")[0]
        return (x + noise * side * drawn.to(x)).clamp(low, validation.high)

    def watch(items: Tensor, scan: Scan) -> Tensor:
        pair = seen(scanned(scan, items), "first"), seen(items, "second")
        if compares == "pixels":
            apart = (pair[0] - pair[1]).flatten(1).double().norm(dim=1)
            # Noise alone makes it about 1.
            return apart / (side * max(noise, 1e-6) * (2 * items[0].numel()) ** 0.5)
        with torch.no_grad(), frozen(model):
            first, second = (in_blocks(model, x).double().log_softmax(1) for x in pair)
        return _divergence(first, second)

    return watch


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence (B,) of log probabilities (B, K), in nats."""
    middle = torch.logaddexp(first, second) - torch.tensor(2.0).log()
    parts = [(p.exp() * (p - middle)).sum(1) for p in (first, second)]
    return (0.5 * (parts[0] + parts[1])).clamp_min(0)
