"""BPDA: the value is the step's, the gradient the stand-in's; an attack gets through."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.attacks.fgsm import fgsm
from trustml.bpda import bpda
from trustml.contracts import Domain
from trustml.errors import MethodFailed
from trustml.randomness import keyed
from trustml.recipes import read_recipe
from trustml.registry import all_of
from trustml.store import build
from trustml.threats import Lp


def _rounded(x: Tensor) -> Tensor:
    """Leave torch, as a compression library would."""
    return torch.from_numpy(np.round(x.numpy() * 8) / 8).to(x)


def test_the_value_is_the_step_s_to_the_bit() -> None:
    x = torch.rand(5, 4)
    for backward in (None, torch.sin):
        assert torch.equal(bpda(_rounded, backward)(x.requires_grad_()), _rounded(x.detach()))


def test_the_gradient_is_that_of_the_identity_or_of_the_stand_in() -> None:
    """Closed forms of w · step(x): w, and w cos(x) where the stand-in is the sine."""
    w, x = torch.randn(4), torch.rand(5, 4, requires_grad=True)
    for backward, slope in ((None, w.expand(5, 4)), (torch.sin, w * x.detach().cos())):
        (found,) = torch.autograd.grad((bpda(_rounded, backward)(x) * w).sum(), x)
        assert torch.allclose(found, slope)


def test_a_step_may_change_the_shape_where_the_stand_in_does() -> None:
    x = torch.rand(2, 4, requires_grad=True)

    def halves(x: Tensor) -> Tensor:
        return x.round().view(2, 2, 2).sum(2)

    kept = bpda(halves, lambda x: x.view(2, 2, 2).sum(2))
    assert torch.equal(kept(x), halves(x.detach()))
    kept(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(2, 4))
    with pytest.raises(MethodFailed, match=r"makes \(2, 2\), and its input is \(2, 4\): give"):
        bpda(halves)(x)


def test_an_attack_gets_through() -> None:
    """On a linear model behind rounding FGSM reaches the closed form, and without BPDA nothing.

    The best Linf move is epsilon along the weights' signs; rounding to 1/8 keeps multiples of it.
    """
    w = torch.tensor([[1.0, -2.0, 3.0, -1.0], [-1.0, 2.0, -3.0, 1.0]])
    x, y = torch.full((1, 4), 0.5), torch.tensor([0])
    x[0, 2] = 0.75
    wanted = x - 0.25 * w[0].sign()

    class Behind(nn.Module):
        def __init__(self, step: nn.Module) -> None:
            super().__init__()
            self.step = step

        def forward(self, x: Tensor) -> Tensor:
            return self.step(x) @ w.T

    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 8).round() / 8

    random, threat = keyed(0, torch.tensor([0])), Lp("linf", 0.25)
    found = fgsm(Behind(bpda(_rounded)), x, y, threat, random=random)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.equal(fgsm(Behind(Bare()), x, y, threat, random=random), x)


def test_a_module_keeps_its_weights_and_its_mode() -> None:
    layer = nn.Linear(4, 4)
    kept = bpda(layer)
    assert set(kept.state_dict()) == {"step.weight", "step.bias"}
    assert not kept.eval().step.training


SERVING = [p.name for p in all_of("safeguard") if p.facts["stage"] == "serving"]


@pytest.mark.parametrize("name", SERVING)
def test_every_guard_passes_gradients_by_default(name: str) -> None:
    """An attacker who knows the guard sees a slope at ordinary inputs, in every sample."""
    domain = Domain((1, 8, 8), 4)
    torch.manual_seed(0)
    model = build(read_recipe(f"mlp:hidden=[32]+{name}"), domain, 0).eval()
    x = torch.rand(6, *domain.shape, requires_grad=True)
    logits = model(x)
    # Of labels a vote may be even: the slope is that of one class.
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (slope.flatten(1).abs().amax(1) > 0).all()
    blind = "bpda" in {option.name for option in _plugin(name).options}
    if blind:
        blinded = build(read_recipe(f"mlp:hidden=[32]+{name}:bpda=false"), domain, 0).eval()
        (slope,) = torch.autograd.grad(blinded(x)[:, 0].sum(), x)
        assert (slope == 0).all(), "so the option is what lets them through"


def _plugin(name: str):
    return next(plugin for plugin in all_of("safeguard") if plugin.name == name)
