"""A small convolutional network; by default the one of fast adversarial training on MNIST."""

import math

from torch import nn

from trustml.contracts import Domain, Training
from trustml.errors import BadOption
from trustml.models._network import Network, dense, need_images, too_small
from trustml.registry import model


@model(
    source="LeCun et al. 1989; default widths of Wong et al. 2020, arXiv:2001.03994",
    training=Training(epochs=30, batch_size=64, learning_rate=3e-3, patience=5),
)
def cnn(
    domain: Domain,
    /,
    *,
    channels: tuple[int, ...] = (16, 32),
    kernel: int = 4,
    stride: int = 2,
    padding: int = 1,
    hidden: tuple[int, ...] = (100,),
    dropout: float = 0.0,
) -> nn.Module:
    """Convolutions with ReLU, one for each of `channels`, then dense layers `hidden` and a head.

    Raises:
        BadOption: a kernel, stride, padding, width or dropout that is out of range.
        NotApplicable: the inputs are no images, or too small for the convolutions.
    """
    if min(kernel, stride, *channels) < 1 or padding < 0 or not channels:
        raise BadOption(
            f"cnn: channels={list(channels)}, kernel={kernel}, stride={stride}, padding={padding} "
            f"is not allowed: at least one channel width, all 1 or more, and padding 0 or more"
        )
    before, height, width = need_images("cnn", domain)
    layers: list[nn.Module] = []
    for after in channels:
        if min(height, width) + 2 * padding < kernel:
            least = _least_size(len(channels), kernel, stride, padding)
            raise too_small("cnn", domain, f"{least}x{least} for these convolutions")
        height, width = (1 + (side + 2 * padding - kernel) // stride for side in (height, width))
        layers += [nn.Conv2d(before, after, kernel, stride, padding), nn.ReLU()]
        before = after
    inputs = math.prod((before, height, width))
    layers += [nn.Flatten(), *dense(inputs, hidden, "relu", dropout)]
    return Network(domain, [*layers, nn.Linear((inputs, *hidden)[-1], domain.classes)])


def _least_size(convolutions: int, kernel: int, stride: int, padding: int) -> int:
    """Return the least side of an image that every convolution leaves something of."""
    side = 1
    for _ in range(convolutions):
        side = max(1, (side - 1) * stride + kernel - 2 * padding)
    return side
