"""Laplace over all weights: its expansion, its curvature, its prior."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.functional import softmax

from trustml.bayes.laplace import fit_last_layer
from trustml.contracts import Domain, Split, Training
from trustml.models._laplace import Laplace, curvature
from trustml.models._linearised import Weighted, leaves, linearised
from trustml.models._network import Network
from trustml.models.cnn import cnn
from trustml.models.lenet import lenet
from trustml.models.mlp import mlp
from trustml.training import fit, seeded

DOMAIN = Domain((3,), 4)


@pytest.mark.parametrize(
    "network",
    [
        lambda: mlp(Domain((5,), 3), hidden=(7, 6), activation="gelu", dropout=0.3),
        lambda: mlp(Domain((5,), 3), hidden=(7,), activation="softplus"),
        lambda: cnn(Domain((2, 9, 8), 3, -1.0, 1.0), channels=(3, 4), hidden=(6,)),
        lambda: lenet(Domain((1, 14, 13), 3)),
    ],
    ids=["gelu", "softplus", "cnn", "lenet"],
)
def test_expansion_is_the_derivative_along_the_change(network: Callable[[], Network]) -> None:
    """Central differences in float64; and for more inputs than are carried at a time."""
    with seeded(0):
        module = network().double().eval()
    layers = [layer for layer in leaves(module) if isinstance(layer, Weighted)]
    changes = [
        (torch.randn(2, *layer.weight.shape).double(), torch.randn(2, *layer.bias.shape).double())
        for layer in layers
    ]
    shape = {"Linear": (5,)}.get(type(layers[0]).__name__) or (
        (2, 9, 8) if layers[0].in_channels == 2 else (1, 14, 13)
    )
    x = torch.rand(35, *shape, dtype=torch.float64)
    expanded = linearised(module, x, changes)
    names = [name for name, _ in module.named_parameters()]
    for number in range(2):
        moves = [part[number] for change in changes for part in change]

        def answer(step: float, moves: list[Tensor] = moves) -> Tensor:
            moved = zip(names, module.parameters(), moves, strict=True)
            return functional_call(module, {n: w + step * m for n, w, m in moved}, (x,))

        slope = (answer(1e-6) - answer(-1e-6)) / 2e-6
        torch.testing.assert_close(expanded[number] - module(x), slope, atol=1e-7, rtol=1e-6)


def test_expansion_can_be_attacked(samples: Callable[..., Split]) -> None:
    """The slope for the input is that of central differences, through the bends' own slopes."""
    with seeded(0):
        module = Laplace(mlp(DOMAIN, hidden=(7, 5), activation="tanh"), 3, 1.0, 1.0).double().eval()
    x = samples(3).x.double().requires_grad_()
    (slope,) = torch.autograd.grad(module(x)[:, 1].sum(), x)
    step = 1e-6 * torch.eye(3).double()
    with torch.no_grad():
        for entry in range(3):
            ahead, behind = (module(x + sign * step[entry])[:, 1] for sign in (1, -1))
            torch.testing.assert_close(
                slope[:, entry], (ahead - behind) / 2e-6, atol=1e-6, rtol=1e-5
            )


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_curvature_of_one_sample_is_exact(kind: str) -> None:
    """With one sample (and one place) A ⊗ G is the Gauss-Newton matrix of each layer, no less."""
    with seeded(0):
        network = (
            mlp(DOMAIN, hidden=(4,)) if kind == "mlp"
            else cnn(Domain((2, 3, 3), 4), channels=(3,), kernel=3, stride=1, padding=0, hidden=())
        ).double().eval()  # fmt: skip
    x = torch.rand(1, *((3,) if kind == "mlp" else (2, 3, 3)), dtype=torch.float64)
    split = Split(x, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 4)
    p = softmax(network(x)[0], 0)
    middle = torch.diag(p) - torch.outer(p, p)
    jacobians = jacrev(lambda w: functional_call(network, w, (x,))[0])(
        dict(network.named_parameters())
    )
    layers = [name for name, layer in network.named_modules() if isinstance(layer, Weighted)]
    for name, (outputs, inputs) in zip(layers, curvature(network, split), strict=True):
        rows = jacobians[f"{name}.weight"].flatten(2)
        rows = torch.cat([rows, jacobians[f"{name}.bias"][:, :, None]], 2).flatten(1)
        torch.testing.assert_close(torch.kron(outputs, inputs), rows.T @ middle @ rows)


def test_curvature_of_a_convolution_counts_places_once() -> None:
    """Exact again where every place reads the same and the head listens to one place alone."""
    with seeded(0):
        network = cnn(
            Domain((2, 4, 4), 4), channels=(3,), kernel=3, stride=1, padding=0, hidden=()
        ).double()
    network.eval()
    with torch.no_grad():
        network.head.weight.view(4, 3, 2, 2)[:, :, (0, 1, 1), (0, 0, 1)] = 0
    x = torch.tensor([0.3, 0.8], dtype=torch.float64)[None, :, None, None].expand(1, 2, 4, 4)
    split = Split(x, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 4)
    p = softmax(network(x)[0], 0)
    middle = torch.diag(p) - torch.outer(p, p)
    jacobians = jacrev(lambda w: functional_call(network, w, (x,))[0])(
        dict(network.named_parameters())
    )
    rows = jacobians["body.0.weight"].flatten(2), jacobians["body.0.bias"][:, :, None]
    flat = torch.cat(rows, 2).flatten(1)
    outputs, inputs = curvature(network, split)[0]
    torch.testing.assert_close(torch.kron(outputs, inputs), flat.T @ middle @ flat)


def test_curvature_of_the_head_is_that_of_the_last_layer(samples: Callable[..., Split]) -> None:
    """Over many samples and batches, the head's block is the closed form's."""
    with seeded(0):
        network = mlp(DOMAIN, hidden=(6,)).eval()
    train = samples(600)
    block = curvature(network, train)[-1]
    truth = fit_last_layer(
        network.features(train.x), network.head.weight, network.head.bias, prior_precision=1.0
    )
    for matrix, (values, vectors) in zip(
        block, (truth.weights.classes, truth.weights.features), strict=True
    ):
        torch.testing.assert_close(matrix, vectors * values @ vectors.T, atol=1e-4, rtol=1e-4)


def test_draws_of_laplace_have_the_covariance_of_their_blocks(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """The variance of a logit is J Σ Jᵀ over all blocks, within the error of 4000 draws."""
    module = model("laplace", "mlp:hidden=[4]", prior_scale=0.5, temperature=0.3)
    fit(module, samples(), samples(20, 1), Training(epochs=10, learning_rate=0.01), 0)
    assert isinstance(module, Laplace)
    x = samples(3, 5).x
    jacobians = jacrev(lambda w: functional_call(module.network, w, (x,)))(
        dict(module.network.named_parameters())
    )
    truth = torch.zeros(3, 4, dtype=torch.float64)
    for place, block in zip((1, 3), module.blocks(), strict=True):
        names = f"body.{place}.weight", f"body.{place}.bias"
        rows = (
            torch.cat([jacobians[names[0]], jacobians[names[1]][..., None]], -1).flatten(2).double()
        )
        dense = torch.kron(
            *(vectors * values @ vectors.T for values, vectors in (block.classes, block.features))
        )
        covariance = 0.3 * torch.linalg.inv(dense + block.prior * torch.eye(len(dense)).double())
        truth += torch.einsum("bkp,pq,bkq->bk", rows, covariance, rows).detach()
    assert block.prior == pytest.approx(4.0)
    draws = module.sample_logits(x, 4000).detach().double()
    assert float((draws.var(0) / truth - 1).abs().max()) < 0.12


def test_laplace_prior_has_the_greatest_evidence(
    model: Callable[..., nn.Module], samples: Callable[..., Split]
) -> None:
    """Neither a tenth more nor less precision is likelier, by the formula written out."""
    module = model("laplace", "mlp:hidden=[4]", prior_scale=None)
    fit(module, samples(), samples(20, 1), Training(epochs=20, learning_rate=0.01), 0)
    assert isinstance(module, Laplace)
    values = torch.cat([block.spectrum() for block in module.blocks()])
    square = sum(float(w.detach().double().square().sum()) for w in module.parameters())

    def evidence(precision: float) -> float:
        volume = float((values + precision).log().sum()) - len(values) * math.log(precision)
        return -0.5 * (precision * square + volume)

    best = float(module.precision)
    assert 1e-3 < best < 1e3
    assert evidence(best) > max(evidence(1.1 * best), evidence(best / 1.1))
