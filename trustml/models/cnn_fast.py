"""A small network that learns MNIST-sized digits within a minute on two processor cores."""

from torch import nn

from trustml.contracts import Domain, Training
from trustml.models._fast_network import fast_network
from trustml.registry import model


@model(
    source="Jordan 2024, arXiv:2404.00498, section 3, with few channels",
    training=Training(
        epochs=3, batch_size=256, learning_rate=1.5, weight_decay=0.002, optimizer="sgd"
    ),
)
def cnn_fast(
    domain: Domain,
    /,
    *,
    channels: tuple[int, ...] = (8, 16, 32),
    shift: int = 2,
    mirror: bool | None = None,
) -> nn.Module:
    """The network of resnet_fast with few channels, for small pictures and no GPU.

    Args:
        channels: of the groups, two convolutions each.
        shift: pixels at most by which a training picture is moved.
        mirror: show mirror images too in training; None does so for pictures in colour.

    Raises:
        BadOption: a width below 1, or a shift that is none.
        NotApplicable: the inputs are no images, or smaller than 9x9.
    """
    return fast_network(
        "cnn_fast", domain, channels, residual=False, shift=shift, mirror=mirror, views="one"
    )
