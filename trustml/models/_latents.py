"""Latent variables of an autoencoder: how each kind is drawn, and how far it is from its prior.

Every kind reads `width` numbers a sample from the encoder and gives codes (B, size) to the decoder.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor
from torch.nn.functional import log_softmax, one_hot, softplus

from trustml.bayes.reparameterisations import exponential, gaussian, gumbel_softmax

# Rates and scales stay within e^±8, so that an untrained or attacked encoder gives finite codes.
BOUND = 8.0


class Latent(Protocol):
    """One kind of latent variables with its prior."""

    @property
    def width(self) -> int: ...

    @property
    def size(self) -> int: ...

    def mean(self, read: Tensor) -> Tensor:
        """Return the posterior's mean code (B, size)."""
        ...

    def draw(self, read: Tensor, generator: Generator | None) -> Tensor:
        """Return a code (B, size) from the posterior; gradients pass."""
        ...

    def kl(self, read: Tensor) -> Tensor:
        """Return KL(posterior ‖ prior) of each sample, (B,), in closed form."""
        ...

    def log_ratio(self, read: Tensor, code: Tensor) -> Tensor:
        """Return log prior(code) - log posterior(code), (B,)."""
        ...

    def prior(self, count: int, generator: Generator | None) -> Tensor:
        """Return codes (count, size) from the prior."""
        ...


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Independent normal codes; the prior is N(0, 1)."""

    size: int

    @property
    def width(self) -> int:
        """A mean and a scale for each entry."""
        return 2 * self.size

    def mean(self, read: Tensor) -> Tensor:
        """Return the means (B, size)."""
        return read[:, : self.size]

    def draw(self, read: Tensor, generator: Generator | None) -> Tensor:
        """Return mean + scale · noise."""
        return gaussian(self.mean(read), self._scale(read), generator=generator)

    def kl(self, read: Tensor) -> Tensor:
        """Return Σ (μ² + σ² - 1)/2 - log σ."""
        mean, scale = self.mean(read), self._scale(read)
        return (0.5 * (mean**2 + scale**2 - 1) - scale.log()).sum(1)

    def log_ratio(self, read: Tensor, code: Tensor) -> Tensor:
        """Return the difference of two normal log densities."""
        scale = self._scale(read)
        noise = (code - self.mean(read)) / scale
        return (0.5 * (noise**2 - code**2) + scale.log()).sum(1)

    def prior(self, count: int, generator: Generator | None) -> Tensor:
        """Return standard normal codes."""
        return torch.randn(count, self.size, generator=generator)

    def _scale(self, read: Tensor) -> Tensor:
        return softplus(read[:, self.size :]) + math.exp(-BOUND)


@dataclass(frozen=True, slots=True)
class Exponential:
    """Independent exponential codes; the prior's rate is 1."""

    size: int

    @property
    def width(self) -> int:
        """A rate for each entry."""
        return self.size

    def mean(self, read: Tensor) -> Tensor:
        """Return 1/rate."""
        return 1 / self._rate(read)

    def draw(self, read: Tensor, generator: Generator | None) -> Tensor:
        """Return -log(u)/rate."""
        return exponential(self._rate(read), generator=generator)

    def kl(self, read: Tensor) -> Tensor:
        """Return Σ log λ + 1/λ - 1."""
        rate = self._rate(read)
        return (rate.log() + 1 / rate - 1).sum(1)

    def log_ratio(self, read: Tensor, code: Tensor) -> Tensor:
        """Return Σ (λ - 1)·z - log λ."""
        rate = self._rate(read)
        return ((rate - 1) * code - rate.log()).sum(1)

    def prior(self, count: int, generator: Generator | None) -> Tensor:
        """Return codes of rate 1."""
        return exponential(torch.ones(count, self.size), generator=generator)

    def _rate(self, read: Tensor) -> Tensor:
        return read.clamp(-BOUND, BOUND).exp()


@dataclass(frozen=True, slots=True)
class Categorical:
    """Independent one-hot codes by Gumbel-softmax, straight through; the prior is uniform."""

    variables: int
    categories: int
    temperature: float

    @property
    def size(self) -> int:
        """The length of all one-hot codes together."""
        return self.variables * self.categories

    @property
    def width(self) -> int:
        """A logit for each category."""
        return self.size

    def mean(self, read: Tensor) -> Tensor:
        """Return the probabilities (B, size)."""
        return self._log(read).exp().flatten(1)

    def draw(self, read: Tensor, generator: Generator | None) -> Tensor:
        """Return one-hot codes; the gradient is that of the soft ones."""
        return gumbel_softmax(self._log(read), self.temperature, generator=generator).flatten(1)

    def kl(self, read: Tensor) -> Tensor:
        """Return Σ π log(π · categories)."""
        log = self._log(read)
        return (log.exp() * (log + math.log(self.categories))).sum((1, 2))

    def log_ratio(self, read: Tensor, code: Tensor) -> Tensor:
        """Return -Σ log π(chosen) - variables · log categories."""
        chosen = (code * self._log(read).flatten(1)).sum(1)
        return -chosen - self.variables * math.log(self.categories)

    def prior(self, count: int, generator: Generator | None) -> Tensor:
        """Return uniformly chosen one-hot codes."""
        shape = count, self.variables
        chosen = torch.randint(self.categories, shape, generator=generator)
        return one_hot(chosen, self.categories).float().flatten(1)

    def _log(self, read: Tensor) -> Tensor:
        return log_softmax(read.unflatten(1, (self.variables, self.categories)), dim=2)
