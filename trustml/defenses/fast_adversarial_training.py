"""Adversarial training with a single step from a random start."""

from collections.abc import Callable

from torch import Tensor, nn

from trustml.contracts import Domain
from trustml.defenses._hardening import Climb, Hardened, Loss, check_ball
from trustml.registry import safeguard


@safeguard(
    source="Wong, Rice, Kolter 2020, arXiv:2001.03994, algorithm 3",
    stage="training",
    beaten_by="a budget beyond its epsilon, or another norm",
    does_not_stop="patches, stuck pixels, L0 changes, poisons",
)
def fast_adversarial_training(
    fresh: Callable[[], nn.Module],
    domain: Domain,
    /,
    *,
    epsilon: float = 0.1,
    step: float = 1.25,
    warm_up: float = 0.0,
) -> nn.Module:
    """Train on one signed gradient step from a random point of the Linf ball.

    A large ball, as 0.3 on MNIST, needs a warm-up of a few epochs; where more time is at hand,
    pgd_adversarial_training with such a warm-up is safer.

    Args:
        fresh: builds the model.
        domain: of its inputs.
        epsilon: radius of the ball, in the units of x.
        step: length of the step in epsilons; long steps and long trainings can overfit to the one
            step, which an attack of many steps shows.
        warm_up: epochs in which the ball grows to full size: a large one at once can be too hard
            to begin with.

    Raises:
        BadOption: an epsilon or a step that is not above 0, or a warm-up below 0.
        NotApplicable: the model fits itself.
    """
    name = "fast_adversarial_training"
    check_ball(name, epsilon, 1, step, warm_up)
    whole = Climb((domain.low, domain.high), "linf", epsilon, 1, step, warm_up)

    def loss(model: nn.Module, plain: Loss, x: Tensor, y: Tensor, over: float) -> Tensor:
        climb = whole.at(over)
        return plain(climb.top(lambda point: plain(point, y), climb.start(x), x), y)

    return Hardened(name, fresh, loss)
