"""Variational autoencoders: an encoder, a decoder, and a linear head that reads the codes."""

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from trustml.bayes.checks import check_positive, check_whole
from trustml.contracts import Domain, Training
from trustml.errors import BadOption
from trustml.models._latents import Categorical, Exponential, Gaussian, Latent
from trustml.models._network import UnitBox, dense, need_images, too_small
from trustml.registry import model

Kind = Literal["gaussian", "exponential", "gumbel"]
LEAST = 4
# In shares of the box. Without a least one, pixels that never change would make it vanish.
FIRST_SPREAD, LEAST_SPREAD = 0.3, 0.005


@model(
    source="Kingma, Welling 2014, arXiv:1312.6114; Burda et al. 2016, arXiv:1509.00519 (bound); "
    "Jang et al. 2017, arXiv:1611.01144 (gumbel)",
    training=Training(epochs=100, batch_size=64, learning_rate=3e-3, patience=15),
)
def vae(
    domain: Domain,
    /,
    *,
    layers: Literal["mlp", "conv"] = "mlp",
    latent: Kind = "gaussian",
    pixels: Literal["gaussian", "bernoulli"] = "gaussian",
    size: int = 16,
    categories: int = 8,
    hidden: int = 256,
    temperature: float = 0.67,
) -> nn.Module:
    """An autoencoder with random codes; it classifies by a linear head on their means.

    Args:
        layers: dense ones, or convolutions of stride 2.
        latent: what the codes are.
        pixels: how a pixel lies around what is decoded: gaussian has one scale, which is learnt,
            and gives a density; bernoulli counts grey as a share of white, and is softer.
        size: how many code variables.
        categories: values of each gumbel variable.
        hidden: units of a dense layer.
        temperature: of the soft draws that carry gumbel's gradient.

    Raises:
        BadOption: an option that is out of range, or of no use to the kind of code.
        NotApplicable: conv on inputs that are no images, or smaller than 4x4.
    """
    for name, value, least in (
        ("size", size, 1),
        ("categories", categories, 2),
        ("hidden", hidden, 1),
    ):
        check_whole(least, **{f"vae: {name}": value})
    check_positive(**{"vae: temperature": temperature})
    if latent != "gumbel" and (categories, temperature) != (8, 0.67):
        raise BadOption("vae: categories and temperature are of use to latent=gumbel only")
    code: Latent = Categorical(size, categories, temperature)
    if latent != "gumbel":
        code = Gaussian(size) if latent == "gaussian" else Exponential(size)
    make = _conv if layers == "conv" else _mlp
    return Autoencoder(domain, code, make(domain, code, hidden), pixels)


class Autoencoder(nn.Module):
    """p(x) = ∫ prior(z) Π p(xᵢ | decoder(z)ᵢ), with x in units of the box."""

    def __init__(
        self, domain: Domain, latent: Latent, halves: tuple[nn.Module, nn.Module], pixels: str
    ) -> None:
        super().__init__()
        self.scale, self.shape, self.latent = UnitBox(domain), domain.shape, latent
        self.encoder, self.decoder = halves
        # The scale of gaussian pixels; at the optimum it is the error of the reconstructions.
        self.spread = (
            nn.Parameter(torch.tensor(FIRST_SPREAD).log()) if pixels == "gaussian" else None
        )
        self.head = nn.Linear(latent.size, domain.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """Return the mean codes (B, D)."""
        return self.latent.mean(self.encoder(self.scale(x)))

    def elbo(self, x: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Return an unbiased estimate of the evidence lower bound, (B,), in nats."""
        unit = self.scale(x)
        read = self.encoder(unit)
        code = self.latent.draw(read, generator)
        return self._log_likelihood(unit, code) - self.latent.kl(read)

    def importance_bound(
        self, x: Tensor, draws: int, *, generator: Generator | None = None
    ) -> Tensor:
        """Return the log of the mean importance weight over `draws` codes, (B,), in nats.

        Its mean rises with the draws from the ELBO to log p(x).

        Raises:
            BadOption: no draws.
        """
        check_whole(1, draws=draws)
        unit = self.scale(x)
        read = self.encoder(unit)
        weights = []
        for _ in range(draws):
            code = self.latent.draw(read, generator)
            likelihood = self._log_likelihood(unit, code)
            weights.append(likelihood + self.latent.log_ratio(read, code))
        return torch.stack(weights).logsumexp(0) - math.log(draws)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return what the decoder makes of the mean codes, (B, *S) in the domain's box."""
        return self._picture(self.features(x))

    def generate(self, count: int, *, seed: int = 0) -> Tensor:
        """Return inputs (count, *S) decoded from codes of the prior; the seed decides which."""
        # On the CPU, so that a seed means the same codes on every device.
        code = self.latent.prior(count, Generator().manual_seed(seed))
        return self._picture(code.to(self.head.weight))

    def training_loss(self, x: Tensor, y: Tensor, examples: int) -> Tensor:
        """Return -ELBO, mean over samples, plus the head's cross-entropy.

        The head learns from codes that it cannot change: the autoencoder sees no label.
        """
        return cross_entropy(self.head(self.features(x).detach()), y) - self.elbo(x).mean()

    def _log_likelihood(self, unit: Tensor, code: Tensor) -> Tensor:
        pixels, unit = self.decoder(code).flatten(1), unit.flatten(1)
        if self.spread is None:
            return -binary_cross_entropy_with_logits(pixels, unit, reduction="none").sum(1)
        spread = self.spread.exp() + LEAST_SPREAD
        errors = ((unit - pixels.sigmoid()) / spread).square().sum(1)
        return -0.5 * errors - unit.shape[1] * (spread.log() + 0.5 * math.log(2 * math.pi))

    def _picture(self, code: Tensor) -> Tensor:
        share = self.decoder(code).sigmoid().view(-1, *self.shape)
        return self.scale.low + self.scale.width * share


def _mlp(domain: Domain, latent: Latent, hidden: int) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder of one hidden layer each."""
    inputs = math.prod(domain.shape)
    encoder = [
        nn.Flatten(),
        *dense(inputs, (hidden,), "relu", 0.0),
        nn.Linear(hidden, latent.width),
    ]
    decoder = [*dense(latent.size, (hidden,), "relu", 0.0), nn.Linear(hidden, inputs)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def _conv(domain: Domain, latent: Latent, hidden: int) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder of two convolutions of stride 2 and a hidden layer each."""
    channels, height, width = need_images("vae:layers=conv", domain)
    if min(height, width) < LEAST:
        raise too_small("vae:layers=conv", domain, f"{LEAST}x{LEAST}")
    half, quarter = (height // 2, width // 2), (height // 4, width // 4)
    flat = 32 * math.prod(quarter)
    encoder = [
        nn.Conv2d(channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), *dense(flat, (hidden,), "relu", 0.0), nn.Linear(hidden, latent.width),
    ]  # fmt: skip
    # What halving rounded off is padded back, so that odd sizes return too.
    inner, outer = (half[0] % 2, half[1] % 2), (height % 2, width % 2)
    decoder = [
        *dense(latent.size, (hidden,), "relu", 0.0), nn.Linear(hidden, flat), nn.ReLU(),
        nn.Unflatten(1, (32, *quarter)),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, inner), nn.ReLU(),
        nn.ConvTranspose2d(16, channels, 4, 2, 1, outer),
    ]  # fmt: skip
    return nn.Sequential(*encoder), nn.Sequential(*decoder)
