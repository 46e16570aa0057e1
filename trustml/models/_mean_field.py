"""Variational inference: every weight of the body has a Gaussian belief, learnt by the ELBO."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trustml.bayes.variational import (
    Conv2dVariational,
    LinearVariational,
    VariationalOptions,
    drawn,
    kl,
)
from trustml.contracts import Epoch, Split, Training
from trustml.models._bayesian import log_mean_probability
from trustml.models._network import Network
from trustml.training import fit

# Beside the rate of plain networks: under weight noise means must grow, and scales from 0.03
# towards the prior's, before the bound is tight; at the plain rate 100 epochs end half-way there.
HASTE = 3.0


class MeanField(nn.Module):
    """A network of variational layers; in eval mode `network` alone answers with the means."""

    def __init__(
        self, network: Network, draws: int, temperature: float, options: VariationalOptions
    ) -> None:
        """Replace every linear and convolutional layer by a variational one."""
        super().__init__()
        for name, layer in network.body.named_children():
            setattr(network.body, name, _believing(layer, options))
        self.network, self.draws, self.temperature = network, draws, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability over the draws, (B, K)."""
        return log_mean_probability(self.sample_logits(x, self.draws))

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads, (B, D): under the mean weights in eval mode."""
        return self.network.features(x)

    def sample_logits(self, x: Tensor, draws: int) -> Tensor:
        """Return logits (S, B, K); each draw is one network for the whole batch."""
        logits = []
        for number in range(draws):
            with drawn(self.network, number):
                logits.append(self.network(x))
        return torch.stack(logits)

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Climb the ELBO."""
        hasty = replace(training, learning_rate=HASTE * training.learning_rate)
        return fit(_Bound(self), train, validation, hasty, seed)

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the negative ELBO an example: mean cross-entropy + temperature · KL / examples."""
        return cross_entropy(self.network(x), y) + self.temperature * kl(self.network) / examples


class _Bound(nn.Module):
    """What `trustml.training.fit` sees: the loss, and no fit of its own to go round in."""

    def __init__(self, belief: MeanField) -> None:
        super().__init__()
        self.belief = belief

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability, (B, K)."""
        logits: Tensor = self.belief(x)
        return logits

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return the negative ELBO an example."""
        return self.belief.training_loss(x, y, examples)


def _believing(layer: nn.Module, options: VariationalOptions) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return LinearVariational(layer.in_features, layer.out_features, options=options)
    if isinstance(layer, nn.Conv2d):
        (kernel, _), (stride, _) = layer.kernel_size, layer.stride
        padding = layer.padding[0]
        assert isinstance(padding, int)
        return Conv2dVariational(
            layer.in_channels, layer.out_channels, kernel,
            stride=stride, padding=padding, options=options,
        )  # fmt: skip
    return layer
