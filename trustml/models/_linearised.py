"""First-order expansion of a chain of layers in its weights, many directions at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from trustml.errors import NotApplicable
from trustml.models._network import ACTIVATIONS, Network

Change = tuple[Tensor, Tensor]
Weighted = nn.Linear | nn.Conv2d
ELEMENTWISE = tuple(ACTIVATIONS.values())
# Inputs at a time: tangents are as many times larger as there are directions.
ROWS = 32


def leaves(network: Network) -> list[nn.Module]:
    """Return the layers of the chain in order, without the boxes around them."""
    return [layer for layer in network.body.modules() if not list(layer.children())]


def linearised(network: Network, x: Tensor, changes: Sequence[Change]) -> Tensor:
    """Return f(x) + J(x)·change, (S, B, K): J is carried along the chain, never built.

    torch.func.jvp gives the same, one direction at a time.

    Args:
        changes: of weight (S, *W) and bias (S, O) for each layer that has them, in order.

    Raises:
        NotApplicable: a layer whose derivative is not known here.
    """
    return torch.cat([_expanded(network, rows, changes) for rows in x.split(ROWS)], 1)


def _expanded(network: Network, x: Tensor, changes: Sequence[Change]) -> Tensor:
    value, tangent = network.scale(x), x.new_zeros(())
    left = iter(changes)
    for layer in leaves(network):
        if isinstance(layer, nn.Linear):
            weight, bias = next(left)
            turned = torch.matmul(value, weight.transpose(1, 2))
            steady = layer.weight.T.expand(len(weight), -1, -1)
            along = torch.bmm(tangent, steady) if tangent.dim() else tangent
            value, tangent = layer(value), along + turned + bias[:, None]
        elif isinstance(layer, nn.Conv2d):
            value, tangent = layer(value), _convolved(layer, value, tangent, *next(left))
        else:
            value, tangent = _unweighted(layer, value, tangent)
    return value + tangent


def _convolved(
    layer: nn.Conv2d, value: Tensor, tangent: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """Return the tangent (S, B, O, H, W) after a convolution whose weights change too."""
    assert not isinstance(layer.padding, str)
    turned = conv2d(value, weight.flatten(0, 1), bias.flatten(), layer.stride, layer.padding)
    turned = turned.unflatten(1, weight.shape[:2]).transpose(0, 1)
    if not tangent.dim():
        return turned
    along = conv2d(tangent.flatten(0, 1), layer.weight, None, layer.stride, layer.padding)
    return along.unflatten(0, tangent.shape[:2]) + turned


def _unweighted(layer: nn.Module, value: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Return value and tangent after a layer without weights."""
    if isinstance(layer, nn.Dropout):
        return value, tangent
    if isinstance(layer, nn.Flatten):
        return value.flatten(1), tangent.flatten(2) if tangent.dim() else tangent
    if isinstance(layer, nn.MaxPool2d):
        pooled, chosen = nn.functional.max_pool2d(
            value, layer.kernel_size, layer.stride, return_indices=True
        )
        flat = chosen.flatten(2).expand(len(tangent), *chosen.shape[:2], -1)
        return pooled, tangent.flatten(3).gather(3, flat).view(len(tangent), *pooled.shape)
    if isinstance(layer, ELEMENTWISE):
        return layer(value), tangent * _slope(layer, value)
    raise NotApplicable(f"laplace cannot expand {type(layer).__name__}: take mlp, cnn or lenet")


def _slope(layer: nn.Module, value: Tensor) -> Tensor:
    """Return the derivative of an elementwise layer, itself differentiable."""
    keep = torch.is_grad_enabled() and value.requires_grad
    with torch.enable_grad():
        at = value if keep else value.detach().requires_grad_()
        (slope,) = torch.autograd.grad(layer(at).sum(), at, create_graph=keep)
    return slope
