"""ResNet-18 for small images: torchvision's, with a 3x3 stem and no pooling before the blocks."""

import torch
from torch import Tensor, nn

from trustml.contracts import Domain, Training
from trustml.models._network import UnitBox, need_images
from trustml.registry import model


@model(
    source="He et al. 2016, arXiv:1512.03385, section 4.2",
    training=Training(
        epochs=15, batch_size=128, learning_rate=0.05, weight_decay=5e-4, optimizer="sgd"
    ),
)
def resnet18(domain: Domain, /) -> nn.Module:
    """Eight residual blocks of 64 to 512 channels, mean over places, linear head.

    Raises:
        NotApplicable: the inputs are no images.
    """
    return SmallResNet(domain, need_images("resnet18", domain)[0])


class SmallResNet(nn.Module):
    """torchvision's network under `body`, so that its own weight names load too."""

    def __init__(self, domain: Domain, channels: int) -> None:
        super().__init__()
        from torchvision.models import resnet18 as of_torchvision

        self.scale = UnitBox(domain)
        self.body = of_torchvision(num_classes=domain.classes)
        self.body.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.body.maxpool = nn.Identity()

    @property
    def head(self) -> nn.Linear:
        """The last layer, which reads the features."""
        head: nn.Linear = self.body.fc
        return head

    def features(self, x: Tensor) -> Tensor:
        """Return the means over places after the last block, (B, 512)."""
        body = self.body
        x = body.relu(body.bn1(body.conv1(self.scale(x))))
        for block in (body.layer1, body.layer2, body.layer3, body.layer4):
            x = block(x)
        return torch.flatten(body.avgpool(x), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, K)."""
        logits: Tensor = self.head(self.features(x))
        return logits
