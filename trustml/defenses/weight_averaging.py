"""The mean of the last weights serves, not the last ones."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trustml.contracts import Domain, OwnFit, OwnLoss
from trustml.errors import BadOption, NotApplicable
from trustml.guarding import deployed
from trustml.registry import safeguard

EARLY = 10  # so many steps, and the mean forgets as slowly as it shall


@safeguard(
    source="Polyak, Juditsky 1992, SIAM J. Control Optim. 30; against attacks: Gowal et al. 2020, "
    "arXiv:2010.03593, section 4.4",
    stage="training",
    beaten_by="whatever gets past the training that it averages",
    does_not_stop="anything by itself: it makes a hard training steadier",
)
def weight_averaging(
    fresh: Callable[[], nn.Module], domain: Domain, /, *, decay: float = 0.998
) -> nn.Module:
    """Train as before, and deploy a running mean of the weights.

    Args:
        fresh: builds the model, with the safeguards of the training before this one.
        domain: of its inputs.
        decay: share of the mean that a step leaves; it looks back some 1 / (1 - decay) steps.

    Raises:
        BadOption: a decay outside (0, 1).
        NotApplicable: the model fits itself.
    """
    if not 0 < decay < 1:
        raise BadOption(f"weight_averaging: decay={decay:g} is not allowed: above 0 and below 1")
    return Averaged(fresh(), decay)


class Averaged(nn.Module):
    """A scaffold around a model: the mean stands in for it outside the training's steps."""

    model: Any
    mean: Any

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        if isinstance(model, OwnFit):
            raise NotApplicable(
                "weight_averaging looks on while a model takes steps, and this one fits itself: "
                "use mlp or cnn, and put what trains many models, as ensemble_vote, last"
            )
        self.model, self.decay, self.steps = model, decay, 0
        self.mean = deepcopy(deployed(model)).requires_grad_(False)

    @property
    def deployed(self) -> nn.Module:
        """The mean; scaffolds within go as well."""
        mean: nn.Module = self.mean
        return mean.requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K): the mean's, but in training."""
        logits: Tensor = self.model(x) if self.training else self.mean(x)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what the mean's last layer reads, (B, D)."""
        features: Tensor = self.mean.features(x)
        return features

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the model's loss, or without a gradient the mean's; a step moves the mean."""
        if not torch.is_grad_enabled():
            return self._loss(self.mean, x, y, examples)
        self._absorb()
        return self._loss(self.model, x, y, examples)

    def _loss(self, module: Any, x: Tensor, y: Tensor, examples: int) -> Tensor:
        if isinstance(module, OwnLoss):
            return module.training_loss(x, y, examples)
        return cross_entropy(module(x), y)

    def _absorb(self) -> None:
        """Move the mean towards the weights as the last step left them."""
        decay = min(self.decay, self.steps / (self.steps + EARLY))
        self.steps += 1
        state = deployed(self.model).state_dict()
        with torch.no_grad():
            for name, kept in self.mean.state_dict().items():
                if kept.is_floating_point():
                    kept.lerp_(state[name], 1 - decay)
                else:
                    kept.copy_(state[name])
