"""The multi-layer perceptron."""

import math

from torch import nn

from trustml.contracts import Domain, Training
from trustml.models._network import Activation, Network, dense
from trustml.registry import model


@model(
    source="Rumelhart, Hinton, Williams 1986, Nature 323",
    training=Training(epochs=30, batch_size=64, learning_rate=3e-3, patience=5),
)
def mlp(
    domain: Domain,
    /,
    *,
    hidden: tuple[int, ...] = (256,),
    activation: Activation = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Fully connected layers of the widths `hidden`, then a linear head.

    Raises:
        BadOption: a width below 1, or a dropout that is no rate.
    """
    inputs = math.prod(domain.shape)
    layers = dense(inputs, hidden, activation, dropout)
    head = nn.Linear((inputs, *hidden)[-1], domain.classes)
    return Network(domain, [nn.Flatten(), *layers, head])
