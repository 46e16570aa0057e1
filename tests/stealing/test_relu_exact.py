"""One-hidden-layer ReLU networks come back from their answers: planted weights, budgets, seeds."""

import pytest
import torch
from torch import Tensor, nn

from trustml.contracts import Access, Domain, Terms, Theft
from trustml.models.mlp import mlp
from trustml.stealing.relu_exact import relu_exact
from trustml.symmetry import Difference, Hidden, units_difference
from trustml.training import seeded
from trustml.victim import Service

NO_POOL = torch.zeros(0)


def planted(inputs: int, hidden: int, classes: int, seed: int) -> tuple[nn.Module, Domain]:
    """A network with drawn weights, in float64."""
    domain = Domain((inputs,), classes)
    with seeded(seed):
        net = mlp(domain, hidden=(hidden,)).double()
    return net.eval().requires_grad_(False), domain


def terms(**words: object) -> Terms:
    return Terms(**{"answers": Access.LOGITS, "precision": "float64", "inputs": "free"} | words)


def steal(net: nn.Module, domain: Domain, given: Terms, seed: int = 0, **options: int) -> Theft:
    pool = torch.zeros(0, *domain.shape)
    random = torch.Generator().manual_seed(seed)
    return relu_exact(Service(net, domain, given), pool, nn.Identity, random=random, **options)


def hidden(net: nn.Module) -> Hidden:
    inner, outer = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
    table = torch.cat([inner.weight, inner.bias[:, None]], dim=1)
    return Hidden(table.detach(), outer.weight.detach(), outer.bias.detach())


def error(theft: Theft, net: nn.Module) -> Difference:
    return units_difference(hidden(theft.copy), hidden(net), theft.up_to)


def bound(inputs: int, width: int, classes: int) -> float:
    """Parameters modulo order and scale of the units, over the numbers that a query answers."""
    return (width * (inputs + 1) + classes * (width + 1) - width) / classes


def gap(copy: nn.Module, net: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((copy(x) - net(x)).abs().max())


@pytest.mark.parametrize(
    ("inputs", "width", "classes"), [(8, 6, 3), (8, 6, 2), (10, 8, 1), (20, 12, 10)]
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_weights_come_back(inputs: int, width: int, classes: int, seed: int) -> None:
    """Logits tell every weight up to the units' order and positive scale."""
    net, domain = planted(inputs, width, classes, seed)
    theft = steal(net, domain, terms(), seed)
    assert theft.certificate["right"]
    assert theft.up_to == "units"
    assert error(theft, net).largest < 1e-8
