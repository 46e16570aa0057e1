"""What training safeguards share: a scaffold with another loss, and the points that climb it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trustml.contracts import OwnFit, OwnLoss
from trustml.errors import BadOption, NotApplicable
from trustml.geometry import like
from trustml.guarding import deployed

Ball = Literal["linf", "l2"]
Loss = Callable[[Tensor, Tensor], Tensor]
# (model, its loss (x, y) → scalar, x, y, epochs that are over) → scalar
HardLoss = Callable[[Any, Loss, Tensor, Tensor, float], Tensor]
FIRST = 0.01  # share of the ball that a warm-up begins with
LONGEST = 1.25  # of a step, in budgets


class Hardened(nn.Module):
    """A scaffold around a model, which is fitted by a harder loss than its own."""

    model: Any

    def __init__(self, name: str, fresh: Callable[[], nn.Module], loss: HardLoss) -> None:
        """Wrap a fresh model.

        Raises:
            NotApplicable: it fits itself, so no other loss can be put to it.
        """
        super().__init__()
        self.model, self.loss, self.seen = fresh(), loss, 0
        if isinstance(self.model, OwnFit):
            raise NotApplicable(
                f"{name} changes the loss of a training by gradient steps, and this model fits "
                f"itself: use mlp or cnn, and put what trains many models, as ensemble_vote, last"
            )

    @property
    def deployed(self) -> nn.Module:
        """The model itself; inner scaffolds go as well."""
        return deployed(self.model)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.model(x)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what the last layer reads, (B, D)."""
        features: Tensor = self.model.features(x)
        return features

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the harder loss of one batch; a training one moves the training on."""
        over = self.seen / examples
        if torch.is_grad_enabled():
            self.seen += len(x)

        def plain(inputs: Tensor, labels: Tensor) -> Tensor:
            if isinstance(self.model, OwnLoss):
                return self.model.training_loss(inputs, labels, examples)
            return cross_entropy(self.model(inputs), labels)

        return self.loss(self.model, plain, x, y, over)


@dataclass(frozen=True, slots=True)
class Climb:
    """Steepest steps up a loss, within a ball and the box.

    Training needs the worst point of the ball; an attack may stop at the first that wins.

    Args:
        box: what the ball is cut with.
        norm: of the ball.
        epsilon: its radius, in the units of x.
        steps: how many.
        step: length of each, in radii.
        warm_up: epochs in which radius and steps rise to these.
    """

    box: tuple[float, float]
    norm: Ball
    epsilon: float
    steps: int
    step: float
    warm_up: float = 0.0

    def at(self, over: float) -> "Climb":
        """Return the climb as it is when so many epochs are over."""
        if over >= self.warm_up:
            return self
        share = max(FIRST, over / self.warm_up)
        steps = math.ceil(self.steps * share)
        step = min(LONGEST, self.step * self.steps / steps)
        return replace(self, epsilon=self.epsilon * share, steps=steps, step=step, warm_up=0.0)

    def start(self, x: Tensor) -> Tensor:
        """Return random points (B, *S) of the ball, by torch's global numbers."""
        if self.norm == "linf":
            return self._within(x + self.epsilon * (2 * torch.rand_like(x) - 1), x)
        way = torch.randn_like(x)
        share = torch.rand(len(x), device=x.device) ** (1 / way[0].numel())
        return self._within(x + like(self.epsilon * share / _length(way), x) * way, x)

    def top(self, loss: Callable[[Tensor], Tensor], start: Tensor, x: Tensor) -> Tensor:
        """Return where the steps from `start` end, (B, *S), without a gradient."""
        point = start.detach()
        # A validation loss is computed without gradients, but the walk needs its own.
        with torch.enable_grad():
            for _ in range(self.steps):
                point = point.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(loss(point), point)
                move = (
                    gradient.sign()
                    if self.norm == "linf"
                    else gradient / like(_length(gradient), x)
                )
                point = self._within(point.detach() + self.step * self.epsilon * move, x)
        return point.detach()

    def _within(self, point: Tensor, x: Tensor) -> Tensor:
        move = point - x
        if self.norm == "linf":
            move = move.clamp(-self.epsilon, self.epsilon)
        else:
            move = move * like((self.epsilon / _length(move)).clamp(max=1), x)
        return (x + move).clamp(*self.box)


def check_ball(name: str, epsilon: float, steps: int, step: float, warm_up: float) -> None:
    """Refuse a ball or a walk that is none.

    Raises:
        BadOption: a radius or step that is not above 0, no step, or a warm-up below 0.
    """
    if not epsilon > 0 or steps < 1 or not step > 0:
        raise BadOption(
            f"{name}: epsilon={epsilon:g}, steps={steps}, step={step:g} are not allowed: "
            f"epsilon and step are above 0, steps 1 or more"
        )
    if not 0 <= warm_up < math.inf:
        raise BadOption(f"{name}: warm_up={warm_up:g} is not allowed: 0 or more epochs")


def _length(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).clamp_min(1e-12)
