"""ResNet-18 on small images."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18 as of_torchvision

from trustml.contracts import Domain
from trustml.errors import NotApplicable
from trustml.models.resnet18 import resnet18
from trustml.training import seeded


def test_is_torchvisions_network_with_another_stem() -> None:
    """Its logits are those of torchvision's own forward pass; all but the stem has its sizes."""
    with seeded(0):
        module = resnet18(Domain((3, 32, 32), 10)).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module.body(x))
        assert module.features(x).shape == (2, 512)
    sizes = {name: tuple(t.shape) for name, t in module.body.state_dict().items()}
    theirs = of_torchvision(num_classes=10).state_dict()
    different = {name for name, t in theirs.items() if tuple(t.shape) != sizes.pop(name)}
    assert different == {"conv1.weight"}
    assert not sizes
    # The published count for the CIFAR variant with a 3x3 stem and ten classes.
    assert sum(p.numel() for p in module.parameters()) == 11_173_962


def test_keeps_places_until_the_blocks_halve_them() -> None:
    """32x32 stays 32x32 through stem and first blocks, and is 4x4 at the end."""
    module = resnet18(Domain((1, 32, 32), 10)).eval()
    seen = []

    def note(_: nn.Module, __: tuple[Tensor], out: Tensor) -> None:
        seen.append(tuple(out.shape[2:]))

    for layer in (module.body.layer1, module.body.layer4):
        layer.register_forward_hook(note)
    with torch.no_grad():
        module(torch.rand(1, 1, 32, 32))
    assert seen == [(32, 32), (4, 4)]


def test_needs_images() -> None:
    """Points are refused."""
    with pytest.raises(NotApplicable, match="needs images"):
        resnet18(Domain((2,), 2))
