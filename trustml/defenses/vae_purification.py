"""The input as an autoencoder that knows only clean ones would draw it."""

from typing import Any

from torch import Tensor, nn

from trustml.contracts import Domain, Split, Training
from trustml.defenses._before import Before, keep_draws
from trustml.errors import BadOption
from trustml.registry import get, safeguard
from trustml.training import fit


@safeguard(
    source="Meng, Chen 2017, arXiv:1705.09064 (reformer); Kingma, Welling 2014, arXiv:1312.6114",
    stage="serving",
    beaten_by="gradients through encoder and decoder",
    does_not_stop="an input that the autoencoder itself makes into another class; triggers",
)
def vae_purification(
    model: nn.Module, domain: Domain, /, *, size: int = 16, hidden: int = 256, epochs: int = 100
) -> nn.Module:
    """Put the model behind a variational autoencoder's reconstruction; gradients pass it.

    Args:
        model: what is guarded.
        domain: of its inputs.
        size: how many code variables.
        hidden: units of its dense layers.
        epochs: passes over the training split at most.

    Raises:
        BadOption: a count below 1.
    """
    if epochs < 1:
        raise BadOption(f"vae_purification: epochs={epochs} is not allowed: 1 or more")
    plugin = get("model", "vae")
    vae = plugin.function(domain, size=size, hidden=hidden)
    usual: Training = plugin.facts["training"]
    how = Training(epochs, usual.batch_size, usual.learning_rate, patience=usual.patience)
    return Purified(model, vae, how)


class Purified(nn.Module):
    """A model that reads reconstructions."""

    def __init__(self, model: nn.Module, vae: nn.Module, training: Training) -> None:
        super().__init__()
        self.within, self.training_of_vae = Before(model, Reconstruction(vae)), training
        keep_draws(self, model, self._draws)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.within(x)
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return what the model's last layer reads, (B, D)."""
        return self.within.features(x)

    def accepts(self, x: Tensor) -> Tensor:
        """Return (B,) bool: what the model within says of the reconstruction."""
        return self.within.accepts(x)

    def doubt(self, x: Tensor) -> Tensor | None:
        """Return (B,) what the model within doubts of the reconstruction."""
        return self.within.doubt(x)

    def learn(self, train: Split, validation: Split, seed: int) -> None:
        """Fit the autoencoder; labels play no part in it."""
        vae: Any = self.within.change
        fit(vae.vae, train, validation, self.training_of_vae, seed)

    def _draws(self, x: Tensor, draws: int) -> Tensor:
        logits: Tensor = self.within.model.sample_logits(self.within.change(x), draws)
        return logits


class Reconstruction(nn.Module):
    """Inputs (B, *S) → what the decoder makes of their mean codes."""

    vae: Any

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor) -> Tensor:
        """Return reconstructions (B, *S)."""
        drawn: Tensor = self.vae.reconstruct(x)
        return drawn
