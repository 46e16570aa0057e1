"""Certificates on models of the catalogue: what is proved is never fooled, what is not can be."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trustml.benchmarks.certify import certificate
from trustml.contracts import Dataset, Split
from trustml.data.digits import digits
from trustml.errors import NotApplicable
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp
from trustml.training import fit


@dataclass(frozen=True)
class Subject:
    """A trained model and digits to try it on."""

    module: nn.Module
    split: Split


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return digits(folder=None)


@pytest.fixture(scope="module", params=["logistic", "mlp", "cnn"])
def subject(request: pytest.FixtureRequest, dataset: Dataset) -> Subject:
    """Return a model of the catalogue, briefly trained, and 40 test digits."""
    plugin = get("model", request.param)
    options = {"cnn": {"channels": (6, 8), "hidden": (20,)}, "mlp": {"hidden": (40, 20)}}
    torch.manual_seed(0)
    module = plugin.function(dataset.train.domain, **options.get(request.param, {}))
    fit(module, dataset.train, dataset.validation, plugin.facts["training"], 0)
    return Subject(module, dataset.test.at(slice(0, 40)))


@pytest.mark.parametrize(
    ("norm", "epsilon"), [("linf", 0.02), ("l2", 0.15), ("l1", 0.4), ("l0", 1.0)]
)
def test_no_attack_fools_a_certified_sample(subject: Subject, norm: str, epsilon: float) -> None:
    """A counterexample within the threat would disprove the certificate."""
    module, split, threat = subject.module, subject.split, Lp(norm, epsilon)
    found = certificate(module, split, threat)
    assert found.certified.any()
    for name in ("noise", "pgd", "fgsm"):
        attack = get("attack", name)
        if norm in attack.facts["norms"]:
            points = attack.function(module, split.x, split.y, threat, random=keyed(0, split.ids))
            fooled = module(threat.project(points, split.x)).argmax(1) != split.y
            assert not bool((found.certified & fooled).any())
    wrong = module(split.x).argmax(1) != split.y
    assert not bool((found.certified & wrong).any())


def test_more_walks_prove_more(subject: Subject) -> None:
    """Each method starts from the one before it."""
    some = [
        certificate(subject.module, subject.split, Lp("linf", 0.03), walks=w) for w in (0, 20, 400)
    ]
    for before, after in pairwise(some):
        assert bool((after.margins >= before.margins).all())
    affine = some[0].method == "exact"
    assert [c.method for c in some] == (
        ["exact"] * 3 if affine else ["interval", "interval, crown", "interval, crown"]
    )
    assert affine or int(some[2].certified.sum()) > int(some[0].certified.sum())
    assert (some[0].distances is not None) == affine


def test_a_sample_s_proof_does_not_depend_on_the_others(subject: Subject) -> None:
    threat = Lp("linf", 0.03)
    whole = certificate(subject.module, subject.split, threat)
    back = torch.arange(39, -1, -1)
    turned = certificate(subject.module, subject.split.at(back), threat)
    assert torch.allclose(whole.margins, turned.margins[back], atol=1e-9)


def test_an_epsilon_for_each_sample(subject: Subject) -> None:
    """With epsilon 0 the certificate is the clean answer; a larger epsilon proves no more."""
    module, split = subject.module, subject.split.at(slice(0, 20))
    epsilon = torch.tensor([0.0, 0.01] * 10)
    mixed = certificate(module, split, Lp("linf", epsilon))
    small = certificate(module, split, Lp("linf", 0.01))
    right = module(split.x).argmax(1) == split.y
    assert torch.equal(mixed.certified[0::2], right[0::2])
    assert torch.allclose(mixed.margins[1::2], small.margins[1::2], atol=1e-9)
    assert bool((mixed.margins >= small.margins - 1e-9).all())


def test_targeted_threats_are_easier_to_rule_out(subject: Subject) -> None:
    """Never to be read as one wanted class is less than never to be misread."""
    module, split = subject.module, subject.split
    answered = module(split.x).argmax(1)
    wanted = Split(split.x, (answered + 1) % 10, split.ids, 10)
    own = Split(split.x, answered, split.ids, 10)
    aimed = certificate(module, wanted, Lp("linf", 0.03, targeted=True))
    free = certificate(module, own, Lp("linf", 0.03))
    assert bool((aimed.certified >= free.certified).all())
    assert int(aimed.certified.sum()) > int(free.certified.sum())
    there = certificate(module, own, Lp("linf", 0.03, targeted=True))
    assert not there.certified.any()


class Odd(nn.Module):
    """A linear model whose input goes through a function first."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.head = first, nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).flatten(1))


class Drawn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn(1, 1, 8, 8)


class Dropped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.3)


class Quantised(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.round(x * 16) / 16


@pytest.mark.parametrize("first", [Drawn(), Dropped(), Quantised(), nn.GELU()])
def test_what_cannot_be_proved_is_not_claimed(first: nn.Module, dataset: Dataset) -> None:
    """Random, quantised and unknown models have no certificate, and the reason is given."""
    with pytest.raises(NotApplicable, match="bounds"):
        certificate(Odd(first).eval(), dataset.test.at(slice(0, 9)), Lp("linf", 0.01))


def test_a_noise_that_tracing_bakes_in_is_noticed(dataset: Dataset) -> None:
    """`torch.randn(1, 1, 8, 8)` is drawn once while tracing, and looks like a constant."""
    with pytest.raises(NotApplicable, match="does not answer as"):
        certificate(Odd(Drawn()).eval(), dataset.test.at(slice(0, 9)), Lp("linf", 0.0))


def test_what_is_quick_depends_on_the_depth() -> None:
    """One hidden layer gets a walk for each class, which is what hundreds would give; two get none.

    With one bend the walks from the logits are all that CROWN has, so more of them change nothing.
    """
    torch.manual_seed(0)
    split = Split(torch.rand(20, 4), torch.zeros(20, dtype=torch.long), torch.arange(20), 3)
    one = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    two = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    threat = Lp("linf", 0.01)
    for module, same_as in ((one, 200), (two, 0)):
        split = replace(split, y=module(split.x).argmax(1))
        quick, known = (certificate(module, split, threat, walks=n) for n in (None, same_as))
        assert torch.equal(quick.certified, known.certified)
        assert torch.equal(quick.margins, known.margins)
