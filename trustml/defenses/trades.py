"""TRADES: right on the sample, and the same all around it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from trustml.contracts import Domain
from trustml.defenses._hardening import LONGEST, Ball, Climb, Hardened, Loss, check_ball
from trustml.errors import BadOption
from trustml.registry import safeguard

NEAR = 0.001  # the divergence has no gradient at the sample itself


@safeguard(
    source="Zhang et al. 2019, arXiv:1901.08573, algorithm 1",
    stage="training",
    beaten_by="a budget beyond its epsilon, or another norm",
    does_not_stop="patches, stuck pixels, L0 changes, poisons",
)
def trades(
    fresh: Callable[[], nn.Module],
    domain: Domain,
    /,
    *,
    epsilon: float = 0.1,
    norm: Ball = "linf",
    steps: int = 7,
    beta: float = 6.0,
    warm_up: float = 0.0,
) -> nn.Module:
    """Train on the model's loss, plus how much its probabilities change in the ball at worst.

    Args:
        fresh: builds the model.
        domain: of its inputs.
        epsilon: radius of the ball, in the units of x.
        norm: of the ball.
        steps: of 2.5 · epsilon / steps each; an epoch takes steps + 2 times as long.
        beta: weight of the change: more is more robust and less accurate.
        warm_up: epochs in which ball and steps grow to full size: a large ball all at once can be
            too hard to begin with, and small ones take less time.

    Raises:
        BadOption: an epsilon, steps or a beta that is not above 0, or a warm-up below 0.
        NotApplicable: the model fits itself.
    """
    if not beta > 0:
        raise BadOption(f"trades: beta={beta:g} is not allowed: it must be above 0")
    step = min(LONGEST, 2.5 / max(1, steps))
    check_ball("trades", epsilon, steps, step, warm_up)
    whole = Climb((domain.low, domain.high), norm, epsilon, steps, step, warm_up)

    def loss(model: nn.Module, plain: Loss, x: Tensor, y: Tensor, over: float) -> Tensor:
        climb = whole.at(over)
        with torch.no_grad():
            there = model(x).log_softmax(1)
        top = climb.top(
            lambda point: _change(there, model(point)), x + NEAR * torch.randn_like(x), x
        )
        return plain(x, y) + beta * _change(model(x).log_softmax(1), model(top)) / len(x)

    return Hardened("trades", fresh, loss)


def _change(there: Tensor, logits: Tensor) -> Tensor:
    """Return the divergence KL(there ‖ here), summed over samples."""
    return kl_div(logits.log_softmax(1), there, reduction="sum", log_target=True)
