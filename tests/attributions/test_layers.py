"""Explanations that change a network's layers: hand-made networks, and those that they refuse."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trustml.attributions._pooling import pooled_by_relus
from trustml.attributions.deep_lift import deep_lift
from trustml.attributions.grad_cam import grad_cam
from trustml.attributions.guided_backprop import guided_backprop
from trustml.attributions.input_x_gradient import input_x_gradient
from trustml.attributions.internal_influence import internal_influence
from trustml.attributions.lrp import lrp
from trustml.contracts import Domain
from trustml.errors import BadOption, NotApplicable
from trustml.models.cnn import cnn
from trustml.models.lenet import lenet
from trustml.models.resnet18 import resnet18

ONE = torch.tensor([0])
RULED = (deep_lift, guided_backprop, lrp)


def dense(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    """Return the layer with these numbers."""
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def test_deep_lift_shares_a_saturated_difference() -> None:
    """With f = 1 - relu(1 - x₀ - x₁) at (1, 1): the gradient is 0 and the difference 1, half each.

    The example with which Shrikumar et al. (2017, §2.1) motivate the rule.
    """
    network = nn.Sequential(dense([[-1.0, -1.0]], [1.0]), nn.ReLU(), dense([[-1.0]], [1.0]))
    x = torch.ones(1, 2)
    assert torch.allclose(deep_lift(network, x, ONE, x * 0), torch.tensor([[0.5, 0.5]]))
    assert torch.equal(input_x_gradient(network, x, ONE, x * 0), torch.zeros(1, 2))


@pytest.mark.parametrize("build", [cnn, lenet])
def test_deep_lift_sums_to_the_difference(build: Callable[[Domain], nn.Module]) -> None:
    """Pooling, ReLU, several layers, against a baseline that is not zero."""
    network = build(Domain((1, 14, 14), 10)).eval()
    x, background = torch.rand(3, 1, 14, 14), torch.rand(5, 1, 14, 14)
    target = torch.tensor([3, 1, 4])
    maps = deep_lift(network, x, target, background, baseline="mean")
    with torch.no_grad():
        middle = background.mean(0, keepdim=True).expand_as(x)
        wanted = (network(x) - network(middle)).gather(1, target[:, None])[:, 0]
    assert torch.allclose(maps.flatten(1).sum(1), wanted, atol=1e-5)


def test_pooling_by_relus_is_pooling() -> None:
    """The same maxima, also where windows overlap or leave a margin; with padding it is refused."""
    x, target = torch.randn(2, 3, 7, 8), torch.tensor([0, 1])
    for kernel, stride in ((2, 2), (3, 2), ((2, 3), 1)):
        pool = nn.Sequential(nn.MaxPool2d(kernel, stride))
        wanted = pool(x)
        assert torch.allclose(pooled_by_relus(pool)(x), wanted, atol=1e-6)
        assert not isinstance(pool[0], nn.MaxPool2d)
    padded = nn.Sequential(nn.MaxPool2d(3, padding=1), nn.Flatten(), nn.LazyLinear(2))
    padded(x)
    with pytest.raises(NotApplicable, match="does MaxPool2DWithIndices where no module"):
        deep_lift(padded, x, target, x)


def test_guided_backprop_passes_no_negative_gradient() -> None:
    """Two units on, weighed 2 and -3: the second one's gradient is cut."""
    network = nn.Sequential(dense([[1.0, 0.5], [0.0, 1.0]]), nn.ReLU(), dense([[2.0, -3.0]]))
    found = guided_backprop(network, torch.ones(1, 2), ONE, torch.zeros(1, 2))
    assert torch.allclose(found, torch.tensor([[2.0, 1.0]]))


def test_lrp_without_biases_is_input_times_gradient() -> None:
    """Known of the epsilon rule in ReLU networks without biases (Ancona et al. 2018, prop. 1)."""
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 12, bias=False), nn.ReLU(), nn.Linear(12, 8, bias=False),
        nn.ReLU(), nn.Linear(8, 3, bias=False),
    )  # fmt: skip
    x, target = torch.rand(5, 1, 3, 3), torch.tensor([0, 1, 2, 0, 1])
    wanted = input_x_gradient(network, x, target, x)
    assert torch.allclose(lrp(network, x, target, x, epsilon=1e-9), wanted, atol=1e-5)


def test_lrp_takes_what_the_bias_is_answerable_for() -> None:
    """From z = x₀ + 2 x₁ + 1 at (1, 1): of the 4, shares 1 and 2; the bias keeps 1."""
    found = lrp(dense_only([[1.0, 2.0]], [1.0]), torch.ones(1, 2), ONE, torch.zeros(1, 2))
    assert torch.allclose(found, torch.tensor([[1.0, 2.0]]), atol=1e-4)


def test_lrp_by_positive_weights_and_by_gamma() -> None:
    """With z = 2 x₀ - x₁ = 1 at (1, 1). alpha1_beta0: all to x₀. Gamma 1: 4 and -1, of 3.

    captum keeps the activations and hence the output of the unchanged layer: R = 1.
    """
    model, x = dense_only([[2.0, -1.0]], [0.0]), torch.ones(1, 2)
    place = model[0].weight.data_ptr()
    positive = lrp(model, x, ONE, x * 0, rule="alpha1_beta0")
    assert torch.allclose(positive, torch.tensor([[1.0, 0.0]]), atol=1e-4)
    favoured = lrp(model, x, ONE, x * 0, rule="gamma", gamma=1.0)
    assert torch.allclose(favoured, torch.tensor([[4 / 3, -1 / 3]]), atol=1e-4)
    assert torch.equal(model[0].weight, torch.tensor([[2.0, -1.0]])), "captum wrote into it"
    assert model[0].weight.data_ptr() == place, "captum left another tensor in its place"


def dense_only(weight: list[list[float]], bias: list[float]) -> nn.Sequential:
    return nn.Sequential(dense(weight, bias))


def test_grad_cam_shows_the_feature_map() -> None:
    """A 1x1 convolution by 1, then the mean: the map is relu(x)/(H W), one weight everywhere."""
    network = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    nn.init.ones_(network[0].weight)
    x = torch.randn(2, 1, 4, 4)
    found = grad_cam(network, x, torch.tensor([0, 0]), x)
    assert torch.allclose(found, x.clamp_min(0) / 16, atol=1e-6)


def test_grad_cam_finds_its_layer() -> None:
    """In a residual network, whose activations are used twice, too; and a named one if asked."""
    x, target = torch.rand(2, 3, 16, 16), torch.tensor([0, 1])
    network = resnet18(Domain((3, 16, 16), 4)).eval()
    found = grad_cam(network, x, target, x, positive=False)
    named = grad_cam(network, x, target, x, positive=False, layer="body.layer4")
    assert torch.equal(found, named)
    assert torch.equal(found[:, 0], found[:, 2])
    assert float(found.abs().sum()) > 0
    with pytest.raises(NotApplicable, match=r"no layer 'body.layer9'"):
        grad_cam(network, x, target, x, layer="body.layer9")


def test_a_layer_that_is_used_twice_has_no_map_of_its_own() -> None:
    """Captum would show the one call and pass over the other; a layer that is never called, too."""

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same, self.idle = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.same(self.same(x)).flatten(1)

    x = torch.rand(1, 1, 4, 4)
    for method in (grad_cam, internal_influence):
        for layer, times in (("same", 2), ("idle", 0)):
            with pytest.raises(NotApplicable, match=f"'{layer}' is called {times} times"):
                method(Again(), x, ONE, x, layer=layer)


class Residual(nn.Module):
    """x + relu(Wx), then a head: the input goes two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.relu, self.head = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.dense(x)
        return self.head(first + self.relu(first))


class Twice(nn.Module):
    """One ReLU in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.second(self.relu(self.first(x)))))


class Loose(nn.Module):
    """A ReLU that is a function beside a ReLU that is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.head = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.relu(self.first(x)) - 0.1))


class Product(nn.Module):
    """Two activations multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.head = nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.first(x)) * x)


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Twice(), "'relu' .ReLU. is used more than once"),
        (Loose(), "does Relu where no module"),
        (Product(), "does Mul where no module"),
        (Residual(), "goes two ways"),
    ],
)
def test_what_a_rule_does_not_see_is_refused(
    method: object, network: nn.Module, reason: str
) -> None:
    x = torch.rand(2, 4)
    with pytest.raises(NotApplicable, match=reason):
        method(network, x, torch.tensor([0, 1]), x)  # type: ignore[operator]


class Warm(nn.Module):
    """Logits divided by a temperature after the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) / 2


def test_what_a_network_does_after_its_layers() -> None:
    """DeepLIFT takes the factor along; LRP would hand on the undivided logit."""
    network, x, target = Warm(), torch.rand(2, 4), torch.tensor([0, 1])
    wanted = network.head.weight.detach()[target] * x / 2
    assert torch.allclose(deep_lift(network, x, target, x), wanted, atol=1e-6)
    with pytest.raises(NotApplicable, match="does Div outside of its modules"):
        lrp(network, x, target, x)


@pytest.mark.parametrize("method", [deep_lift, lrp])
def test_an_activation_without_a_rule_is_refused(method: object) -> None:
    """Else captum would treat it as linear and say nothing."""
    network = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 2))
    x = torch.rand(2, 4)
    with pytest.raises(NotApplicable, match="does Gelu where no module"):
        method(network, x, torch.tensor([0, 1]), x)  # type: ignore[operator]


@pytest.mark.parametrize("method", RULED)
def test_a_model_without_layers_is_refused(method: object) -> None:
    x = torch.rand(2, 4)
    with pytest.raises(NotApplicable, match=r"hand it the nn\.Module"):
        method(lambda x: x[:, :2], x, torch.tensor([0, 1]), x)  # type: ignore[operator]


def test_a_network_without_relu_has_nothing_to_guide() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.rand(2, 4)
    with pytest.raises(NotApplicable, match="has none"):
        guided_backprop(network, x, torch.tensor([0, 1]), x)


def test_options_out_of_range() -> None:
    x = torch.rand(1, 2)
    with pytest.raises(BadOption, match="lrp: epsilon="):
        lrp(dense_only([[1.0, 2.0]], [1.0]), x, ONE, x, epsilon=0.0)
