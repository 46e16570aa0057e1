"""Linear models of two classes, of which the least distances to a misread point are known."""

import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.contracts import Norm
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp

SAMPLES = 12
IDS = torch.arange(SAMPLES)


def linear(shape: tuple[int, ...]) -> tuple[nn.Module, Tensor, Tensor]:
    """A random linear classifier of two classes, inputs in [0.3, 0.7], its answers as labels."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = 0.3 + 0.4 * torch.rand(SAMPLES, *shape, generator=generator)
        model[1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


def least(model: nn.Module, x: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Return the exact least distance (B,) to a misread point of the box."""
    layer = model[1]
    return minimal_distance(
        layer.weight.double(), layer.bias.double(), x, y, norm, (0.0, 1.0)
    ).detach()


def fooled(name: str, norm: Norm, share: float, *, aimed: bool = False, **options: object) -> float:
    """Return the share of inputs misread within so many times the least distance.

    The model answers at the attack's own level and refuses more than `queries`; `aimed`: the other
    class is wanted, which a model of two classes gives just where the own one is lost.
    """
    model, x, y = linear((1, 5, 6))
    far = least(model, x, y, norm) * share
    threat = Lp(norm, far.floor() if norm == "l0" else far, targeted=aimed)
    plugin = get("attack", name)
    handed = Handed(model, plugin.facts["needs"], SAMPLES, budget=int(str(options["queries"])))
    label = 1 - y if aimed else y
    candidate = plugin.function(handed, x, label, threat, random=keyed(0, IDS), **options)
    with torch.no_grad():
        won = model(candidate).argmax(1) != y
    return float((won & threat.contains(candidate, x)).double().mean())


def spent(name: str, norm: Norm, **options: object) -> Tensor:
    """Return the queries (B,) that each sample of a model that never errs took."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(30, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model[1].bias[0] = 1.0
    _, x, _ = linear((1, 5, 6))
    plugin = get("attack", name)
    handed = Handed(model, plugin.facts["needs"], SAMPLES, budget=int(str(options["queries"])))
    epsilon = 3.0 if norm == "l0" else 0.1
    y = torch.zeros(SAMPLES, dtype=torch.int64)
    plugin.function(handed, x, y, Lp(norm, epsilon), random=keyed(0, IDS), **options)
    return handed.forwards
