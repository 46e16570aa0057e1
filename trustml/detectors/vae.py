"""Likelihood of an input under a variational autoencoder of the training inputs."""

import math
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.contracts import Classifier, Domain, Outputs, Split
from trustml.detectors._complexity import bernoulli_bits, deflated_bits
from trustml.detectors._parts import Scorer, need_rows
from trustml.detectors._reading import bounds_of, graph_of, in_blocks, place_of
from trustml.detectors._shared_noise import SharedNoise
from trustml.errors import BadInput, BadOption
from trustml.registry import detector, get
from trustml.training import fit, seeded

BATCH = 128
MOST_EPOCHS = 100
SEED = 0


@detector(
    source="Kingma & Welling 2014, arXiv:1312.6114; Serrà et al. 2020, arXiv:1909.11480, equation 2"
    " (complexity)",
    reads=("x",),
)
def vae(
    model: Classifier,
    train: Outputs,
    validation: Outputs,
    /,
    *,
    complexity: Literal["none", "deflate", "entropy"] = "none",
    pixels: Literal["gaussian", "bernoulli"] = "bernoulli",
    layers: Literal["mlp", "conv"] = "mlp",
    size: int = 16,
    hidden: int = 256,
    steps: int = 2000,
    draws: int = 5,
) -> Scorer:
    """Score by -ELBO in bits, (B,), less the input's own complexity if wanted.

    The autoencoder learns from the training inputs alone. All inputs share their random codes'
    noise, so that a score does not depend on who shares the batch. A box that the training inputs
    do not tell is taken to be [0, 1].

    Args:
        complexity: bits to subtract: deflate is the length of the 8-bit input compressed as a PNG
            is, entropy is that of entries as shares of white, which suits pixels=bernoulli.
        pixels: how an entry lies around what is decoded.
        layers: dense ones, or convolutions.
        size: code variables.
        hidden: units of a dense layer.
        steps: of training, in at most 100 passes over the training inputs.
        draws: codes an input that the ELBO is the mean of.

    Raises:
        NotApplicable: convolutions on inputs that are no images.
        BadInput: no training or validation inputs, or ones that are no numbers.
        BadOption: an option below 1.
    """
    for name, value in (("steps", steps), ("draws", draws)):
        if value < 1:
            raise BadOption(f"vae: {name}={value} is not allowed: it must be 1 or more")
    need_rows(train, "training", 2)
    need_rows(validation, "validation")
    low, high = bounds_of(train)
    domain = Domain(tuple(train.x.shape[1:]), train.logits.shape[1], low, high)
    plugin = get("model", "vae")
    passes = min(math.ceil(steps / math.ceil(len(train.x) / BATCH)), MOST_EPOCHS)
    training = replace(plugin.facts["training"], epochs=passes, batch_size=BATCH)
    with seeded(SEED):
        network = plugin.function(domain, pixels=pixels, layers=layers, size=size, hidden=hidden)
    network = network.to(place_of(model, train.x))
    fit(network, _split(train, domain), _split(validation, domain), training, SEED)
    own = {"none": None, "deflate": deflated_bits, "entropy": bernoulli_bits}[complexity]

    def score(outputs: Outputs) -> Tensor:
        if not bool(outputs.x.isfinite().all()):
            raise BadInput("the inputs hold NaN or an infinity")
        with frozen(network), graph_of(outputs.x):
            nats = in_blocks(network, lambda x: -_elbo(network, x, draws), outputs.x)
        bits = nats / math.log(2)
        return bits if own is None else bits - own((outputs.x - low) / (high - low))

    return score


def _elbo(network: Any, x: Tensor, draws: int) -> Tensor:
    """Return the mean ELBO (B,) over draws in float64; every row sees the same noise."""
    with seeded(SEED), SharedNoise():
        return torch.stack([network.elbo(x).double() for _ in range(draws)]).mean(0)


def _split(outputs: Outputs, domain: Domain) -> Split:
    rows = torch.arange(len(outputs.x))
    return Split(outputs.x, outputs.y, rows, domain.classes, domain.low, domain.high)
