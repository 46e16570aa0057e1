"""The quick gradient of a first convolution, against the library's own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.contracts import Access
from trustml.convolutions import QuickGradients, _Convolution, pays

SHAPES = [
    pytest.param(channels, kernel, stride, padding, dilation)
    for channels in (1, 2, 3)
    for kernel, stride, padding, dilation in (
        (4, 2, 1, 1), (5, 1, 2, 1), (3, 1, 0, 2), (3, 2, (0, 1), 1), ((2, 5), (3, 2), 1, 1),
        (1, 1, 0, 1),
    )
]  # fmt: skip


def layer(channels: int, **how: Any) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, 7, **how).requires_grad_(False)


def slopes(ask: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the answers and the gradient of their sum, each weighted by its own number."""
    x = x.clone().requires_grad_()
    answer = ask(x)
    (gradient,) = torch.autograd.grad((answer * weight).sum(), x)
    return answer.detach(), gradient


@pytest.mark.parametrize(("channels", "kernel", "stride", "padding", "dilation"), SHAPES)
def test_gradients_are_the_librarys_and_answers_are_its_very_bits(
    channels: int, kernel: Any, stride: Any, padding: Any, dilation: int
) -> None:
    """Sums in another order differ by some 1e-7 of their size; a wrong index by all of it."""
    net = layer(channels, kernel_size=kernel, stride=stride, padding=padding, dilation=dilation)
    x = torch.randn(5, channels, 13, 11)
    weight = torch.randn_like(net(x))

    def quick(z: Tensor) -> Tensor:
        how = (net.stride, net.padding, net.dilation)
        return _Convolution.apply(z, net.weight, net.bias, *how)  # type: ignore[no-any-return]

    truth, found = slopes(net, x, weight), slopes(quick, x, weight)
    assert torch.equal(found[0], truth[0])
    assert torch.allclose(found[1], truth[1], atol=1e-5 * float(truth[1].abs().max()))


def test_it_is_taken_where_it_pays_and_nowhere_else() -> None:
    """One channel always, three only in strides; never where weights want a gradient too."""
    strided = {"kernel_size": 4, "stride": 2}
    assert pays(layer(1, kernel_size=3))
    assert pays(nn.Sequential(nn.Conv2d(8, 8, 3), layer(3, **strided)))
    assert not pays(layer(3, kernel_size=3))
    assert not pays(layer(4, **strided))
    assert not pays(lambda x: x)
    x = torch.randn(2, 1, 9, 9, requires_grad=True)
    net = layer(1, kernel_size=3)
    with QuickGradients():
        assert "_Convolution" in type(net(x).grad_fn).__name__
        assert net(x.detach()).grad_fn is None
        net.weight.requires_grad_()
        assert "_Convolution" not in type(net(x).grad_fn).__name__
    assert "_Convolution" not in type(net(x).grad_fn).__name__


def test_a_handed_model_uses_it_and_its_weights_gradients_stay_right() -> None:
    """Frozen weights: the quick way; weights that learn: the library's, with their gradient."""
    net = nn.Sequential(layer(1, kernel_size=4, stride=2, padding=1), nn.Flatten())
    x = torch.randn(4, 1, 8, 8)
    handed = Handed(net, Access.GRADIENTS, 4, block=4)  # type: ignore[arg-type]
    weight = torch.randn_like(net(x))
    truth, found = slopes(net, x, weight), slopes(handed, x, weight)
    assert torch.equal(found[0], truth[0])
    assert torch.allclose(found[1], truth[1], atol=1e-5)
    net.requires_grad_(True)
    handed(x.requires_grad_()).sum().backward()
    assert net[0].weight.grad is not None
