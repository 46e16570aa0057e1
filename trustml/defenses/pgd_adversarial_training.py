"""Training on the worst points of a ball around each sample."""

from collections.abc import Callable

from torch import Tensor, nn

from trustml.contracts import Domain
from trustml.defenses._hardening import LONGEST, Ball, Climb, Hardened, Loss, check_ball
from trustml.registry import safeguard


@safeguard(
    source="Madry et al. 2018, arXiv:1706.06083, equation 2.1",
    stage="training",
    beaten_by="a budget beyond its epsilon, or another norm",
    does_not_stop="patches, stuck pixels, L0 changes, poisons",
)
def pgd_adversarial_training(
    fresh: Callable[[], nn.Module],
    domain: Domain,
    /,
    *,
    epsilon: float = 0.1,
    norm: Ball = "linf",
    steps: int = 7,
    warm_up: float = 0.0,
) -> nn.Module:
    """Train on where projected gradient descent ends from a random point of the ball.

    Args:
        fresh: builds the model.
        domain: of its inputs.
        epsilon: radius of the ball, in the units of x.
        norm: of the ball.
        steps: of 2.5 · epsilon / steps each; an epoch takes steps + 1 times as long.
        warm_up: epochs in which ball and steps grow to full size: a large ball all at once can be
            too hard to begin with, and small ones take less time.

    Raises:
        BadOption: an epsilon or a number of steps that is not above 0, or a warm-up below 0.
        NotApplicable: the model fits itself.
    """
    name = "pgd_adversarial_training"
    step = min(LONGEST, 2.5 / max(1, steps))
    check_ball(name, epsilon, steps, step, warm_up)
    whole = Climb((domain.low, domain.high), norm, epsilon, steps, step, warm_up)

    def loss(model: nn.Module, plain: Loss, x: Tensor, y: Tensor, over: float) -> Tensor:
        climb = whole.at(over)
        return plain(climb.top(lambda point: plain(point, y), climb.start(x), x), y)

    return Hardened(name, fresh, loss)
