"""The small convolutional network and what images it takes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from trustml.contracts import Domain
from trustml.errors import BadOption, NotApplicable
from trustml.models.cnn import cnn
from trustml.weights import load_weights

MNIST = Domain((1, 28, 28), 10)


def test_default_is_the_network_of_fast_adversarial_training(tmp_path: object) -> None:
    """A plain Sequential with the published layers loads under its own names: equal logits."""
    published = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(1568, 100), nn.ReLU(), nn.Linear(100, 10),
    )  # fmt: skip
    path = f"{tmp_path}/weights.pth"
    torch.save(published.state_dict(), path)
    module = cnn(MNIST)
    load_weights(module, path)
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(module(x), published(x))
    assert torch.equal(module.features(x), published[:-1](x))
    assert torch.equal(module.head(module.features(x)), module(x))


def test_one_convolution_before_the_wide_perceptron() -> None:
    """3→12 channels keep 32x32, then 1000 and 1000 units, on CIFAR-shaped inputs."""
    module = cnn(
        Domain((3, 32, 32), 10), channels=(12,), kernel=3, stride=1, padding=1, hidden=(1000, 1000)
    )
    shapes = [tuple(weight.shape) for name, weight in module.named_parameters() if "weight" in name]
    assert shapes == [(12, 3, 3, 3), (1000, 12 * 32 * 32), (1000, 1000), (10, 1000)]


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
def test_builds_exactly_where_torch_can(
    size: tuple[int, int], channels: list[int], kernel: int, stride: int, padding: int
) -> None:
    """It says NotApplicable just where torch's own convolutions would leave nothing."""
    options = {"channels": tuple(channels), "kernel": kernel, "stride": stride, "padding": padding}
    x = torch.rand(2, 2, *size)
    widths = zip([2, *channels], channels, strict=False)
    chain = nn.Sequential(*(nn.Conv2d(a, b, kernel, stride, padding) for a, b in widths))
    try:
        possible = chain(x).numel() > 0
    except RuntimeError:
        possible = False
    if possible:
        assert cnn(Domain((2, *size), 3), **options)(x).shape == (2, 3)
    else:
        with pytest.raises(NotApplicable, match="needs images of at least") as caught:
            cnn(Domain((2, *size), 3), **options)
        least = int(str(caught.value).split("at least ")[1].split("x")[0])
        assert cnn(Domain((2, least, least), 3), **options) is not None
        with pytest.raises(NotApplicable):
            cnn(Domain((2, least - 1, least - 1), 3), **options)


def test_inputs_that_are_no_images_name_models_that_do() -> None:
    """Two numbers are no image: mlp and logistic take them."""
    with pytest.raises(NotApplicable, match=r"\(2,\): mlp and logistic"):
        cnn(Domain((2,), 2))


@pytest.mark.parametrize(
    "options",
    [
        {"channels": ()}, {"channels": (0,)}, {"kernel": 0}, {"stride": 0}, {"padding": -1},
        {"dropout": 1.5}, {"hidden": (0,)},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    """The message names the option."""
    with pytest.raises(BadOption, match=next(iter(options))):
        cnn(MNIST, **options)
