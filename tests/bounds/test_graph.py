"""What can be read off a module, that it computes the same, and what is refused by name."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trustml.bounds.graph import graph_of
from trustml.bounds.interval import exact_logits
from trustml.errors import NotApplicable

SHAPE = (2, 8, 8)
HEAD = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


class Calls(nn.Module):
    """A module whose forward is a function of (self, x), with some weights to use."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 128) / 10)
        self.register_buffer("scale", torch.rand(2, 1, 1) + 0.5)
        self.pick = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.pick(self, x)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :3]


KNOWN: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 3)),
    "a bare linear layer": lambda: nn.Linear(128, 3),
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1), groups=2),
        nn.ReLU(inplace=True), nn.Conv2d(4, 3, 1, bias=False), nn.Conv2d(3, 3, 3, padding="same"),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
    "batch norms": lambda: nn.Sequential(
        _lively(nn.BatchNorm2d(2)), nn.Flatten(), nn.Linear(128, 6),
        _lively(nn.BatchNorm1d(6, affine=False)), nn.LeakyReLU(0.3), nn.Dropout(), nn.Linear(6, 3),
    ),
    "pooling": lambda: nn.Sequential(
        nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, 1, dilation=2), nn.AvgPool2d(2, 1, padding=1),
        nn.Identity(), nn.Flatten(), nn.LazyLinear(3),
    ),
    "smooth": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(128, 5), nn.Tanh(), nn.Linear(5, 5), nn.Sigmoid(), nn.Softplus(),
        nn.Linear(5, 3),
    ),
    "shapes and functions": lambda: Calls(
        lambda m, x: functional.linear(torch.relu(x * m.scale - 0.1).view(x.size(0), -1), m.weight)
    ),
    "arithmetic": lambda: Calls(
        lambda m, x: (-(1 - x) / 0.3 + x.reshape(x.shape[0], 2, 8, 8) - 2 * x).mean((2, 3))
    ),
    "pooling by functions": lambda: Calls(
        lambda m, x: functional.dropout(
            functional.avg_pool2d(functional.max_pool2d(x, 2), 2), training=m.training
        ).flatten(1)
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "GELU": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 3), nn.GELU()), r"GELU \(2\)"),
    "a branch": (lambda: Calls(lambda m, x: x.flatten(1) if x.sum() > 0 else x), "step by step"),
    "dropout left on": (
        lambda: Calls(lambda m, x: functional.dropout(x.flatten(1), 0.5)), "dropout that stays on"
    ),
    "rounding": (lambda: Calls(lambda m, x: torch.round(x).flatten(1)), "round"),
    "noise": (lambda: Calls(lambda m, x: (x + torch.randn_like(x)).flatten(1)), "randn_like"),
    "noise of a shape": (lambda: Calls(lambda m, x: x.flatten(1) + torch.randn(x.shape)), "randn"),
    "a product": (lambda: Calls(lambda m, x: (x * x).flatten(1)), "product"),
    "a mix of samples": (lambda: Calls(lambda m, x: x.flatten(0, 1)[:, 0]), "mixes samples"),
    "no logits": (lambda: Calls(lambda m, x: x + 1), "something else"),
    "half precision": (lambda: nn.Linear(4, 3).half(), "float16"),
    "a mean over samples": (lambda: Calls(lambda m, x: (x - x.mean(0)).flatten(1)), "samples"),
}  # fmt: skip


def _lively(norm: nn.Module) -> nn.Module:
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    return norm


@pytest.mark.parametrize("name", KNOWN)
def test_the_graph_computes_what_the_module_does(name: str) -> None:
    """The same formula in float64: so float32's answer is near, to some units in the last place."""
    x = torch.rand(5, *SHAPE)
    if name == "a bare linear layer":
        x = x.flatten(1)
    module = KNOWN[name]().eval()
    said = module(x)  # also sizes lazy layers
    graph = graph_of(module, tuple(x.shape[1:]))
    assert graph.classes == said.shape[1]
    assert torch.allclose(exact_logits(graph, x).float(), said, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    build, words = REFUSED[name]
    with pytest.raises(NotApplicable, match=words):
        graph_of(build().eval(), SHAPE)


def test_hooks_are_refused() -> None:
    """A hook can change any answer, and the type of its module does not show it."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
    module[1].register_forward_hook(lambda *_: None)
    with pytest.raises(NotApplicable, match="hook"):
        graph_of(module, SHAPE)


def test_modes_and_weights_stay_as_they_were() -> None:
    """A module in training mode is read as in evaluation mode, and left in training mode."""
    module = nn.Sequential(
        _lively(nn.BatchNorm2d(2)), nn.Flatten(), nn.Dropout(), nn.Linear(128, 3)
    )
    module.train()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    graph = graph_of(module, SHAPE)
    x = torch.rand(3, *SHAPE)
    assert all(part.training for part in module.modules())
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert torch.allclose(exact_logits(graph, x).float(), module.eval()(x), atol=1e-5)
    assert graph.widest == math.prod(SHAPE)
