"""LeNet-5."""

import pytest
import torch

from trustml.contracts import Domain
from trustml.errors import NotApplicable
from trustml.models.lenet import lenet


def test_has_the_published_size() -> None:
    """On 28x28 the paper's fully connected version has 61 706 weights."""
    assert sum(p.numel() for p in lenet(Domain((1, 28, 28), 10)).parameters()) == 61_706


@pytest.mark.parametrize("size", [(12, 12), (13, 40), (28, 28), (32, 32)])
def test_takes_images_from_twelve_pixels_on(size: tuple[int, int]) -> None:
    """Logits are the head's answer to the features, for odd and oblong images too."""
    module = lenet(Domain((3, *size), 5)).eval()
    x = torch.rand(2, 3, *size)
    assert module(x).shape == (2, 5)
    assert torch.equal(module.head(module.features(x)), module(x))
    assert module.features(x).shape == (2, 84)


@pytest.mark.parametrize("shape", [(1, 11, 28), (1, 8, 8), (5,)])
def test_refuses_what_leaves_nothing(shape: tuple[int, ...]) -> None:
    """Eleven pixels are 5, then 1 after the second convolution, which pooling cannot halve."""
    with pytest.raises(NotApplicable, match="mlp and logistic"):
        lenet(Domain(shape, 10))
