"""A convolutional network that learns small pictures in few epochs on a GPU."""

from typing import Literal

from torch import nn

from trustml.contracts import Domain, Training
from trustml.models._fast_network import fast_network
from trustml.registry import model


@model(
    source="Jordan 2024, arXiv:2404.00498, section 3",
    training=Training(
        epochs=24, batch_size=1024, learning_rate=1.5, weight_decay=0.002, optimizer="sgd"
    ),
)
def resnet_fast(
    domain: Domain,
    /,
    *,
    channels: tuple[int, ...] = (64, 256, 256),
    residual: bool = False,
    shift: int = 2,
    mirror: bool | None = None,
    views: Literal["one", "mirror", "crops"] = "one",
) -> nn.Module:
    """Whitened patches, groups of convolutions that halve the picture, maximum over places, head.

    Args:
        channels: of the groups, two convolutions each.
        residual: add each group's first convolution to its second.
        shift: pixels at most by which a training picture is moved.
        mirror: show mirror images too in training; None does so for pictures in colour.
        views: what an answer is averaged over: the picture, its mirror image too, or both moved by
            a pixel as well. The others answer somewhat better and take 2 and 6 times as long.

    Raises:
        BadOption: a width below 1, or a shift that is none.
        NotApplicable: the inputs are no images, or smaller than 9x9.
    """
    return fast_network(
        "resnet_fast", domain, channels, residual=residual, shift=shift, mirror=mirror, views=views
    )
