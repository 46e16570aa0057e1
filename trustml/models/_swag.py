"""SWA-Gaussian: the mean and the low-rank spread of the weights along the end of training."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from trustml.bayes.noise import noise
from trustml.contracts import Epoch, Split, Training
from trustml.errors import MethodFailed
from trustml.models._bayesian import log_mean_probability, temper
from trustml.models._network import Network
from trustml.models._penalised import Penalised
from trustml.progress import progress
from trustml.training import evaluate, fit

# Constant step of the walk around the optimum, which momentum makes ten times as long.
WALK_RATE = 0.02
MOMENTUM = 0.9


class Swag(nn.Module):
    """A network at the mean of its snapshots, and how they spread; one snapshot an epoch."""

    deviations: Tensor
    temperature: Tensor

    def __init__(
        self,
        network: Network,
        draws: int,
        temperature: float | None,
        prior_scale: float,
        snapshots: int,
    ) -> None:
        super().__init__()
        self.network, self.draws, self.tempers = network, draws, temperature is None
        self.register_buffer("temperature", torch.tensor(temperature or 1.0, dtype=torch.float64))
        self.precision = prior_scale**-2
        start = parameters_to_vector(network.parameters()).detach()
        self.register_buffer("deviations", start.new_zeros(snapshots, len(start)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probability over the draws, (B, K)."""
        return log_mean_probability(self.sample_logits(x, self.draws))

    def features(self, x: Tensor) -> Tensor:
        """Return what the head reads at the mean weights, (B, D)."""
        return self.network.features(x)

    def sample_logits(self, x: Tensor, draws: int) -> Tensor:
        """Return logits (S, B, K) of networks whose weights are drawn."""
        logits = []
        for number in range(draws):
            logits.append(functional_call(self.network, self._draw(number), (x,)))
        return torch.stack(logits)

    def fit(self, train: Split, validation: Split, training: Training, seed: int) -> list[Epoch]:
        """Train the network under the prior, then walk on and keep the weights of every epoch.

        Raises:
            MethodFailed: the walk left the finite numbers.
        """
        penalised = Penalised(self.network, self.precision)
        curve = fit(penalised, train, validation, training, seed)
        order = torch.Generator().manual_seed(seed)
        walker = torch.optim.SGD(self.network.parameters(), lr=WALK_RATE, momentum=MOMENTUM)
        seen = []
        with progress("swag: walking on", len(self.deviations)) as advance:
            for _ in range(len(self.deviations)):
                rows = torch.randperm(len(train), generator=order).to(train.x.device)
                loss = _walk(penalised, train.at(rows), walker, training.batch_size)
                accuracy = evaluate(self.network, train.at(rows[:500]))[1]
                curve.append(Epoch(loss, accuracy, *evaluate(self.network, validation)))
                seen.append(parameters_to_vector(self.network.parameters()).detach())
                advance(1)
        weights = torch.stack(seen)
        if not weights.isfinite().all():
            raise MethodFailed("swag: the walk left the finite numbers; take another posterior")
        mean = weights.mean(0)
        self.deviations.copy_(weights - mean)
        vector_to_parameters(mean, self.network.parameters())
        if self.tempers:
            temper(self, self.temperature, validation)
        return curve

    def _draw(self, number: int) -> dict[str, Tensor]:
        """Return the weights of draw `number` by name: half the spread diagonal, half low-rank."""
        count = len(self.deviations)
        own = noise(f"swag/{number}/own", self.deviations[0])
        common = noise(f"swag/{number}/common", self.deviations[:, 0])
        spread = self.deviations.square().mean(0).sqrt() * own
        spread = spread + common @ self.deviations / math.sqrt(max(1, count - 1))
        change = (self.temperature / 2).sqrt().to(spread) * spread
        drawn, start = {}, 0
        for name, weight in self.network.named_parameters():
            part = change[start : start + weight.numel()].view_as(weight)
            drawn[name], start = weight + part, start + weight.numel()
        return drawn


def _walk(
    penalised: Penalised, samples: Split, walker: torch.optim.Optimizer, batch_size: int
) -> float:
    """Take one epoch's steps at the constant rate; return the mean loss on the way."""
    penalised.train()
    total = torch.zeros((), device=samples.x.device)
    for part in samples.batches(batch_size):
        loss = penalised.training_loss(part.x, part.y, len(samples))
        walker.zero_grad(set_to_none=True)
        loss.backward()
        walker.step()
        total += loss.detach() * len(part)
    return float(total) / len(samples)
