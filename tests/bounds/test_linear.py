"""Exact certificates of affine models: every sample is either proved or fooled."""

import pytest
import torch
from torch import Tensor, nn

from trustml.affine import minimal_move
from trustml.attacks.linear_exact import linear_exact
from trustml.bounds.graph import graph_of
from trustml.bounds.linear import affine_map, exact_distances, exact_margins, is_affine
from trustml.contracts import Split
from trustml.data.digits import digits
from trustml.errors import NotApplicable
from trustml.models.logistic import TRAINING, logistic
from trustml.randomness import keyed
from trustml.threats import Lp
from trustml.training import fit

NORMS = (("linf", 0.06), ("l2", 0.4), ("l1", 1.5), ("l0", 3.0))


@pytest.fixture(scope="module")
def digits_logistic() -> tuple[nn.Module, Split]:
    """Return a fitted softmax regression and 200 test digits that it reads rightly."""
    dataset = digits(folder=None)
    module = logistic(dataset.train.domain)
    fit(module, dataset.train, dataset.validation, TRAINING, 0)
    test = dataset.test
    right = (module(test.x).argmax(1) == test.y).nonzero()[:200, 0]
    return module, test.at(right)


@pytest.mark.parametrize(("norm", "epsilon"), NORMS)
def test_each_sample_is_proved_or_fooled(
    digits_logistic: tuple[nn.Module, Split], norm: str, epsilon: float
) -> None:
    """The exact attack fools just those that the exact certificate does not hold for."""
    module, split = digits_logistic
    threat = Lp(norm, epsilon)
    graph = graph_of(module, tuple(split.x.shape[1:]))
    margins = exact_margins(graph, split.x, split.y, threat).amin(1)
    found = linear_exact(module, split.x, split.y, threat, random=keyed(0, split.ids))
    assert bool(threat.contains(found, split.x).all())
    fooled = module(found).argmax(1) != split.y
    certified = margins > 0
    assert not bool((certified & fooled).any())
    # What is neither lies within float32's rounding of the boundary.
    assert bool((margins[~certified & ~fooled].abs() < 1e-3).all())
    assert 0 < int(certified.sum()) < len(split)
    distances = exact_distances(graph, split.x, split.y, norm, (0.0, 1.0))
    assert bool((distances[certified] > epsilon).all())
    assert bool((distances[fooled] <= epsilon * (1 + 1e-6)).all())


def test_the_map_of_a_hand_made_chain() -> None:
    """The map y = W(2(x − 0.5)) + b is weight 2W and bias b − W·1."""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head((x - 0.5) / 0.5)

    module = Chain().eval()
    graph = graph_of(module, (3,))
    weight, bias = affine_map(graph)
    own = module.head.weight.detach().double()
    assert is_affine(graph)
    assert torch.allclose(weight, 2 * own)
    assert torch.allclose(bias, module.head.bias.detach().double() - own.sum(1))


def test_the_distance_is_that_of_the_shortest_move() -> None:
    """Two classes, logits ±(x0 − x1): from (.8, .3) the tie is .25 off in Linf, .5/√2 in L2."""
    module = nn.Linear(2, 2, bias=False)
    module.weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    graph, x, y = graph_of(module, (2,)), torch.tensor([[0.8, 0.3]]), torch.tensor([0])
    for norm, far in (("linf", 0.25), ("l2", 0.5**0.5 / 2), ("l1", 0.5), ("l0", 1.0)):
        found = float(exact_distances(graph, x, y, norm, (0.0, 1.0)))
        assert found == pytest.approx(far, abs=1e-6)
    weight, bias = affine_map(graph)
    move = minimal_move(weight, bias, x, y, "linf", (0.0, 1.0))
    assert move[0].tolist() == pytest.approx([-0.25, 0.25], abs=1e-6)


def test_a_bent_model_has_no_exact_certificate() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    graph, x, y = graph_of(module, (2,)), torch.rand(1, 2), torch.tensor([0])
    with pytest.raises(NotApplicable, match="affine"):
        exact_margins(graph, x, y, Lp("linf", 0.1))
    with pytest.raises(NotApplicable, match="affine"):
        exact_distances(graph, x, y, "l2", (0.0, 1.0))
