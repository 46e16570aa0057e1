"""Planted failures that must be noticed, and healthy models that must not be suspected."""

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trustml.benchmarks.indicators import (
    Indicator,
    group_indicators,
    model_indicators,
    notes,
    threat_indicators,
)
from trustml.benchmarks.probes import Subject, subject
from trustml.contracts import Dataset, Split
from trustml.data.digits import digits
from trustml.registry import get
from trustml.training import fit

CPU = torch.device("cpu")
EPSILON = 0.1


@cache
def data() -> Dataset:
    return digits(folder=None)


@cache
def trained(name: str) -> nn.Module:
    """Return a model of the catalogue, trained as it usually is."""
    plugin, dataset = get("model", name), data()
    torch.manual_seed(0)
    module = plugin.function(dataset.train.domain)
    fit(module, dataset.train, dataset.validation, plugin.facts["training"], 0)
    return module


@cache
def adversarially_trained(name: str = "mlp", epochs: int = 12) -> nn.Module:
    """Return a model fitted to PGD examples of Linf 0.1 (Madry et al. 2018)."""
    train = data().train
    torch.manual_seed(0)
    module = get("model", name).function(train.domain)
    optimizer = torch.optim.Adam(module.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(train)).split(64):
            x, y = train.x[rows], train.y[rows]
            point = (x + EPSILON * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
            for _ in range(5):
                point.requires_grad_()
                loss = functional.cross_entropy(module(point), y)
                (gradient,) = torch.autograd.grad(loss, point)
                point = point.detach() + EPSILON / 2 * gradient.sign()
                point = torch.clamp(point, x - EPSILON, x + EPSILON).clamp(0, 1)
            optimizer.zero_grad()
            functional.cross_entropy(module(point), y).backward()
            optimizer.step()
    return module.eval()


class Around(nn.Module):
    """A healthy model with something done to its input or to its answer."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        self.inner, self.before, self.after = trained("mlp"), before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(self.before(x)))


class Winners(nn.Module):
    """k-winners-take-all (Xiao et al. 2020): all but the largest activations are set to 0."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        count = max(1, round(self.share * x.shape[1]))
        least = x.topk(count, dim=1).values[:, -1:]
        return x * (x >= least)


@cache
def winners() -> nn.Module:
    """Return a k-winners-take-all network, trained."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(64, 200), Winners(0.1), nn.Linear(200, 200), Winners(0.1)]
    module = nn.Sequential(*layers, nn.Linear(200, 10))
    plugin = get("model", "mlp")
    fit(module, data().train, data().validation, plugin.facts["training"], 0)
    return module


class Glimpses(nn.Module):
    """A healthy model whose gradient reaches but a few pixels, others at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = trained("mlp"), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        shown = torch.arange(64).view(8, 8) % 24 == self.calls % 24
        return self.inner(torch.where(shown, x, x.detach()))


def _ripple(logits: Tensor) -> Tensor:
    """Add waves far shorter than a step of an attack, as high as the margins."""
    return logits + 10 * torch.sin(3e3 * logits)


PLANTED: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "rounded input": ("zero gradient", lambda: Around(torch.round)),
    "quantised input, gradient passed straight through": (
        "gradient mismatch",
        lambda: Around(lambda x: x + (torch.round(x * 20) / 20 - x).detach()),
    ),
    "noise on the input": ("randomised", lambda: Around(lambda x: x + 0.05 * torch.randn_like(x))),
    "softmax output": ("probabilities as logits", lambda: Around(after=lambda z: z.softmax(1))),
    "k winners take all": ("jumps", winners),
    "dropout left on": ("dropout left on", lambda: Around(lambda x: functional.dropout(x, 0.2))),
    "detached": ("no gradient", lambda: Around(lambda x: x.detach())),
    "through numpy": (
        "no gradient",
        lambda: Around(lambda x: torch.from_numpy(x.detach().numpy() + 0.0)),
    ),
    "logits a thousandfold": ("saturated loss", lambda: Around(after=lambda z: 1000 * z)),
    "ripples": ("unstable predictions", lambda: Around(after=_ripple)),
    "gradient reversed": ("unbounded attack fails", lambda: Around(lambda x: 2 * x.detach() - x)),
    "gradient in glimpses": ("loss still rising", Glimpses),
    "three classes": ("few classes", lambda: Around(after=lambda z: z[:, :3])),
}


def seen_of(module: nn.Module, split: Split | None = None, seed: int = 0) -> Subject:
    split = split or data().test
    with torch.no_grad():
        right = module(split.x).argmax(1) == split.y
    return subject(module, split, right, seed, CPU)


def all_of(seen: Subject, norm: str = "linf", epsilon: float = EPSILON) -> dict[str, Indicator]:
    found = [*model_indicators(seen), *threat_indicators(seen, norm, epsilon)]
    return {indicator.name: indicator for indicator in found}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_failure_is_noticed(case: str) -> None:
    name, build = PLANTED[case]
    found = all_of(seen_of(build().eval()))
    assert found[name].fired, {n: i.value for n, i in found.items()}
    assert found[name].sentence in notes(found.values())


@pytest.mark.parametrize("name", ["logistic", "mlp", "cnn", "adversarial mlp", "adversarial cnn"])
@pytest.mark.parametrize(
    ("norm", "epsilon"), [("linf", 0.1), ("linf", 0.02), ("l2", 0.5), ("l1", 1.5)]
)
def test_a_healthy_model_is_not_suspected(name: str, norm: str, epsilon: float) -> None:
    kind, _, rest = name.partition(" ")
    module = adversarially_trained(rest) if kind == "adversarial" else trained(kind)
    found = all_of(seen_of(module), norm, epsilon)
    assert not notes(found.values())
    wanted = {name for name, _ in PLANTED.values()}
    assert set(found) == wanted


def test_the_same_seed_gives_the_same_numbers_in_any_order() -> None:
    """Samples and random numbers are drawn by seed and id; the global state is left alone."""
    module, split = trained("mlp"), data().test
    before = torch.random.get_rng_state()
    one = all_of(seen_of(module, split))
    assert torch.equal(before, torch.random.get_rng_state())
    other = all_of(seen_of(module, split.at(torch.arange(len(split) - 1, -1, -1))))
    assert {n: i.value for n, i in one.items()} == {n: i.value for n, i in other.items()}
    assert len(seen_of(module).x) == 128
    again = seen_of(module, seed=1)
    assert not torch.equal(again.random.keys, seen_of(module).random.keys)


def test_modes_and_gradients_stay_as_they_were() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout())
    module[2].eval()
    wanted = [part.training for part in module.modules()]
    all_of(seen_of(module, data().test.at(slice(0, 200))))
    assert [part.training for part in module.modules()] == wanted
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_nothing_is_said_without_a_sample() -> None:
    """A model that is always wrong has no sample to look at."""
    module, split = trained("mlp"), data().test
    seen = subject(module, split, torch.zeros(len(split), dtype=torch.bool), 0, CPU)
    assert not all_of(seen)
    assert not threat_indicators(seen_of(module), "linf", math.inf)
    assert not threat_indicators(seen_of(module), "l0", 3.0)


def test_black_box_ahead_of_white_box() -> None:
    """Which attacks see gradients is their own declaration: square does not, pgd does."""
    by_pgd = torch.zeros(100, dtype=torch.bool)
    by_square = by_pgd.clone()
    by_square[:3] = True
    (found,) = group_indicators([("pgd", by_pgd), ("square", by_square)], 100)
    assert found.fired
    assert found.value == pytest.approx(0.03)
    assert "square" in found.sentence
    (found,) = group_indicators([("pgd", by_square), ("square", by_square)], 100)
    assert not found.fired
    by_fgsm = by_square.clone()
    (found,) = group_indicators([("pgd", by_pgd), ("fgsm", by_fgsm), ("square", by_square)], 100)
    assert not found.fired
    assert not group_indicators([("square", by_square)], 100)
