"""What training safeguards share: a scaffold with another loss, and the points that climb it."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trustml.contracts import Domain, OwnFit, OwnLoss
from trustml.errors import BadOption, NotApplicable
from trustml.geometry import like
from trustml.guarding import deployed

Ball = Literal["linf", "l2"]
Loss = Callable[[Tensor, Tensor], Tensor]
# (model, its loss (x, y) → scalar, x, y) → scalar
HardLoss = Callable[[Any, Loss, Tensor, Tensor], Tensor]


class Hardened(nn.Module):
    """A scaffold around a model, which is fitted by a harder loss than its own."""

    model: Any

    def __init__(self, name: str, fresh: Callable[[], nn.Module], loss: HardLoss) -> None:
        """Wrap a fresh model.

        Raises:
            NotApplicable: it fits itself, so no other loss can be put to it.
        """
        super().__init__()
        self.model, self.loss = fresh(), loss
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
        """Return the harder loss of one batch."""

        def plain(inputs: Tensor, labels: Tensor) -> Tensor:
            if isinstance(self.model, OwnLoss):
                return self.model.training_loss(inputs, labels, examples)
            return cross_entropy(self.model(inputs), labels)

        return self.loss(self.model, plain, x, y)


class Climb:
    """Steepest steps up a loss, within a ball and the box.

    Training needs the worst point of the ball; an attack may stop at the first that wins.
    """

    def __init__(
        self, name: str, domain: Domain, norm: Ball, epsilon: float, steps: int, step: float
    ) -> None:
        """Keep the ball.

        Args:
            name: of the safeguard, for its errors.
            domain: whose box it is cut with.
            norm: of the ball.
            epsilon: its radius, in the units of x.
            steps: how many.
            step: length of each.

        Raises:
            BadOption: a radius or step that is not above 0, or no step.
        """
        if not epsilon > 0 or steps < 1 or not step > 0:
            raise BadOption(
                f"{name}: epsilon={epsilon:g}, steps={steps}, step={step:g} are not allowed: "
                f"epsilon and step are above 0, steps 1 or more"
            )
        self.box, self.norm, self.epsilon = (domain.low, domain.high), norm, epsilon
        self.steps, self.step = steps, step

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
                point = self._within(point.detach() + self.step * move, x)
        return point.detach()

    def _within(self, point: Tensor, x: Tensor) -> Tensor:
        move = point - x
        if self.norm == "linf":
            move = move.clamp(-self.epsilon, self.epsilon)
        else:
            move = move * like((self.epsilon / _length(move)).clamp(max=1), x)
        return (x + move).clamp(*self.box)


def _length(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).clamp_min(1e-12)
