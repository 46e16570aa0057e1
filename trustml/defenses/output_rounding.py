"""Probabilities rounded before they are told."""

from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Domain
from trustml.defenses._before import keep_draws, straight_through
from trustml.errors import BadOption
from trustml.guarding import accepted, doubt
from trustml.registry import safeguard

# A class that is rounded to 0 counts as this share of the last digit; a tie is broken by a hair.
NOTHING, HAIR = 0.1, 1e-3


@safeguard(
    source="Tramèr et al. 2016, arXiv:1609.02943, section 7",
    stage="serving",
    beaten_by="labels alone: a decision-based attack, or the gradient of the unrounded answer",
    does_not_stop="attacks on what is read: it guards the weights against thieves, not the mail",
)
def output_rounding(
    model: nn.Module, domain: Domain, /, *, decimals: int = 1, bpda: bool = True
) -> nn.Module:
    """Let the model answer log probabilities that are rounded; its labels stay as they are.

    Args:
        model: what is guarded.
        domain: of its inputs.
        decimals: of the probabilities, 0 to 7.
        bpda: gradients pass the rounding, so that attacks see through; without, they are 0,
            which stops no attacker who knows it.

    Raises:
        BadOption: decimals outside 0 to 7.
    """
    if not 0 <= decimals <= 7:
        raise BadOption(f"output_rounding: decimals={decimals} is not allowed: 0 to 7")
    return Rounded(model, decimals, bpda)


class Rounded(nn.Module):
    """A classifier that tells its probabilities to so many decimals."""

    model: Any

    def __init__(self, model: nn.Module, decimals: int, bpda: bool) -> None:
        super().__init__()
        self.model, self.decimals, self.bpda = model, decimals, bpda
        keep_draws(self, model, self._draws)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logs of the rounded probabilities, (B, K)."""
        return self._told(self.model(x))

    def _told(self, logits: Tensor) -> Tensor:
        exact = logits.log_softmax(1)
        unit = 10.0**-self.decimals
        shown = (exact.detach().exp() / unit).round() * unit
        told = shown.clamp_min(NOTHING * unit).log()
        label = torch.zeros_like(told).scatter_(1, logits.argmax(1, keepdim=True), HAIR)
        return straight_through(told + label, exact, self.bpda)

    def features(self, x: Tensor) -> Tensor:
        """Return what the model's last layer reads, (B, D)."""
        features: Tensor = self.model.features(x)
        return features

    def accepts(self, x: Tensor) -> Tensor:
        """Return (B,) bool: what the model within says."""
        return accepted(self.model, x)

    def doubt(self, x: Tensor) -> Tensor | None:
        """Return (B,) how the model within doubts the input; above 0 it refuses."""
        return doubt(self.model, x)

    def _draws(self, x: Tensor, draws: int) -> Tensor:
        """Return each network's log probabilities, (S, B, K), rounded as the answer is."""
        logits = self.model.sample_logits(x, draws)
        return self._told(logits.flatten(0, 1)).view_as(logits)
