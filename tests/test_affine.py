"""Reading an affine model off its slopes; distances are tested where they are used."""

import torch
from torch import nn

from trustml.affine import affine_map, agrees


def test_the_map_of_an_affine_model_is_its_weights() -> None:
    """Through layers without a bend between them: W₂W₁ and W₂b₁ + b₂."""
    first, second = nn.Linear(12, 5), nn.Linear(5, 3)
    model = nn.Sequential(nn.Flatten(), first, second)
    x = torch.rand(4, 3, 2, 2)
    weight, bias = affine_map(model, x, 3)
    assert torch.allclose(weight, (second.weight @ first.weight).double(), atol=1e-6)
    wanted = second.weight @ first.bias + second.bias
    assert torch.allclose(bias, wanted.double(), atol=1e-6)
    assert agrees(weight, bias, x, model(x))
    assert not agrees(weight, bias + 1e-3, x, model(x))


def test_a_bent_model_does_not_agree_with_its_slopes() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(20, 6)
    assert not agrees(*affine_map(model, x, 3), x, model(x))
