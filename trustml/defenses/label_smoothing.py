"""Training towards answers that are never quite sure."""

from collections.abc import Callable

from torch import Tensor, nn

from trustml.contracts import Domain
from trustml.defenses._hardening import Hardened, Loss
from trustml.errors import BadOption
from trustml.registry import safeguard


@safeguard(
    source="Szegedy et al. 2016, arXiv:1512.00567, section 7",
    stage="training",
    beaten_by="any white-box attack; smaller gradients are all there is in the way",
    does_not_stop="adversarial inputs, poisons and triggers: it makes answers less sure, no more",
)
def label_smoothing(
    fresh: Callable[[], nn.Module], domain: Domain, /, *, smoothing: float = 0.1
) -> nn.Module:
    """Train with a share of each label spread evenly over all classes.

    Args:
        fresh: builds the model.
        domain: of its inputs.
        smoothing: the share, at least 0 and below 1.

    Raises:
        BadOption: a share that is not in [0, 1).
        NotApplicable: the model fits itself.
    """
    if not 0 <= smoothing < 1:
        raise BadOption(f"label_smoothing: smoothing={smoothing:g} is not allowed: 0 to below 1")

    def loss(model: nn.Module, plain: Loss, x: Tensor, y: Tensor, over: float) -> Tensor:
        even = -model(x).log_softmax(1).mean()
        return (1 - smoothing) * plain(x, y) + smoothing * even

    return Hardened("label_smoothing", fresh, loss)
