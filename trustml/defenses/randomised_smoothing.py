"""The answer that the model gives most often to an input with noise on it; it can be certified."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from trustml.bounds.smoothing import Smoothed, smoothed
from trustml.contracts import Domain, Random
from trustml.defenses._before import keep_draws
from trustml.errors import BadOption
from trustml.guarding import accepted, doubt
from trustml.registry import safeguard


@safeguard(
    source="Cohen, Rosenfeld, Kolter 2019, arXiv:1902.02918",
    stage="serving",
    beaten_by="gradients of the mean over the noise, which an attacker can draw too",
    does_not_stop="changes beyond its radius in L2, patches, triggers, poisons",
)
def randomised_smoothing(
    model: nn.Module, domain: Domain, /, *, sigma: float = 0.25, draws: int = 32, seed: int = 0
) -> nn.Module:
    """Let the model answer the mean of its probabilities over `draws` noisy copies of the input.

    The noise is the same for every input and every time, so that an answer is one answer and its
    gradient is the true one. The certificate (`certify`) is about the mean over all noise.

    Args:
        model: what is guarded; it should have been trained with such noise.
        domain: of its inputs.
        sigma: standard deviation of the noise, in the units of x.
        draws: noisy copies.
        seed: of the noise.

    Raises:
        BadOption: a sigma that is not above 0, or no draw.
    """
    if not (sigma > 0 and math.isfinite(sigma)) or draws < 1:
        raise BadOption(
            f"randomised_smoothing: sigma={sigma:g} and draws={draws} are not allowed: sigma is "
            f"above 0, draws 1 or more"
        )
    noise = torch.randn(draws, *domain.shape, generator=torch.Generator().manual_seed(seed))
    return Noisy(model, sigma * noise)


class Noisy(nn.Module):
    """The mean probability over fixed noise, as logits."""

    model: Any
    noise: Tensor

    def __init__(self, model: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.model = model
        # Made again from its seed, so it is no weight.
        self.register_buffer("noise", noise, persistent=False)
        keep_draws(self, model, self._draws)

    def forward(self, x: Tensor) -> Tensor:
        """Return the log of the mean probabilities, (B, K)."""
        parts = [self.model(x + one.to(x)).log_softmax(1) for one in self.noise]
        return torch.stack(parts).logsumexp(0) - math.log(len(parts))

    def features(self, x: Tensor) -> Tensor:
        """Return the mean features (B, D) over the noise."""
        return torch.stack([self.model.features(x + one.to(x)) for one in self.noise]).mean(0)

    def accepts(self, x: Tensor) -> Tensor:
        """Return (B,) bool: what the model within says of the input itself."""
        return accepted(self.model, x)

    def doubt(self, x: Tensor) -> Tensor | None:
        """Return (B,) how the model within doubts the input itself; above 0 it refuses."""
        return doubt(self.model, x)

    def certify(
        self, x: Tensor, sigma: float, random: Random, draws: int = 10_000, alpha: float = 0.001
    ) -> Smoothed:
        """Return answers (B,) and the L2 radii within which no input is answered otherwise.

        Args:
            x: inputs (B, *S).
            sigma: of the noise that is certified for.
            random: the samples' random numbers: fresh ones, not the noise that serves.
            draws: from which the radius is computed.
            alpha: chance that a certificate is wrong.

        Raises:
            BadOption: an option that is out of range.
            MethodFailed: the model answers NaN.
        """
        return smoothed(self.model, x, random=random, sigma=sigma, draws=draws, alpha=alpha)

    def _draws(self, x: Tensor, draws: int) -> Tensor:
        """Return each network's log mean probabilities over the noise, (S, B, K)."""
        parts = [
            self.model.sample_logits(x + one.to(x), draws).log_softmax(2) for one in self.noise
        ]
        return torch.stack(parts).logsumexp(0) - math.log(len(parts))
