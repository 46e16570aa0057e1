"""LeNet-5, with ReLU and maximum pooling."""

from torch import nn

from trustml.contracts import Domain, Training
from trustml.models._network import Network, dense, need_images, too_small
from trustml.registry import model

LEAST = 12


@model(
    source="LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86",
    training=Training(epochs=30, batch_size=64, learning_rate=2e-3, patience=4),
)
def lenet(domain: Domain, /, *, dropout: float = 0.0) -> nn.Module:
    """Two 5x5 convolutions (6, 16), each halved by pooling, then 120 and 84 units and a head.

    Raises:
        BadOption: a dropout that is no rate.
        NotApplicable: the inputs are no images, or smaller than 12x12.
    """
    channels, height, width = need_images("lenet", domain)
    if min(height, width) < LEAST:
        raise too_small("lenet", domain, f"{LEAST}x{LEAST}")
    # 28x28 keeps its size under the first convolution, as in the paper (which pads to 32x32).
    rows, columns = ((side // 2 - 4) // 2 for side in (height, width))
    convolutions = [
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    ]  # fmt: skip
    units = dense(16 * rows * columns, (120, 84), "relu", dropout)
    return Network(domain, [*convolutions, *units, nn.Linear(84, domain.classes)])
