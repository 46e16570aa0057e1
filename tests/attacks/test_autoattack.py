"""AutoAttack: its published schedules, and verdicts against closed forms of linear models."""

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.affine import minimal_distance
from trustml.attacks import autoattack as module
from trustml.attacks.autoattack import autoattack
from trustml.contracts import Access
from trustml.errors import BadOption
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES = 6
IDS = torch.arange(SAMPLES)


def linear(classes: int, shape: tuple[int, ...] = (1, 4, 4)) -> tuple[nn.Module, Tensor, Tensor]:
    """A random linear classifier, inputs in [0.3, 0.7], and its own answers as labels."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        x = 0.3 + 0.4 * torch.rand(SAMPLES, *shape, generator=generator)
        model[1].bias -= model(x).mean(0)
        return model, x, model(x).argmax(1)


def least(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """The least distance at which a sample of a linear model is misread, in closed form."""
    weight, bias = model[1].weight.detach().double(), model[1].bias.detach().double()
    return minimal_distance(weight, bias, x, y, norm, (0.0, 1.0))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_verdicts_are_those_of_the_closed_form(norm: str, classes: int) -> None:
    """A little above the least distance each sample falls, a little below it none can."""
    model, x, y = linear(classes)
    truth = least(model, x, y, norm)
    for times, expected in ((1.05, True), (0.97, False)):
        threat = Lp(norm, times * truth)
        candidate = autoattack(model, x, y, threat, random=keyed(0, IDS), steps=50, queries=50)
        assert bool(threat.contains(candidate, x).all())
        assert bool(((model(candidate).argmax(1) != y) == expected).all())


SCHEDULES = {
    # Croce & Hein 2020, section 6 and the authors' table of versions; L1: 2021, section 5.
    ("standard", "linf"): ["apgd 1", "apgd_targeted 9", "fab 9", "square 5000"],
    ("standard", "l2"): ["apgd 1", "apgd_targeted 9", "fab 9", "square 5000"],
    ("standard", "l1"): ["apgd 5", "apgd_targeted 5", "fab 9", "square 5000"],
    ("rand", "linf"): ["apgd 20", "apgd dlr 20"],
    ("plus", "linf"): [
        "apgd 5", "apgd 5 dlr", "fab 5", "square 5000", "apgd_targeted 9", "fab 9",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("version", "norm"), SCHEDULES)
def test_the_schedule_is_the_published_one(
    version: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is called, in which order, how often: with attacks that only note it and never win."""
    called: list[str] = []

    def noting(name: str) -> object:
        def run(*given: Tensor, random: object, **options: object) -> Tensor:
            assert options.get("steps", 100) == 100
            told = [
                options[key]
                for key in ("restarts", "targets", "queries", "loss", "passes")
                if options.get(key, "cross_entropy") != "cross_entropy"
            ]
            called.append(" ".join(map(str, [name, *told])))
            return given[1]

        return run

    for name in ("apgd", "apgd_targeted", "fab", "square"):
        monkeypatch.setattr(module, name, noting(name))
    model, x, y = linear(3)
    autoattack(model, x, y, Lp(norm, 0.001), random=keyed(0, IDS), version=version)
    assert called == SCHEDULES[version, norm]


def test_a_robust_sample_costs_the_published_passes() -> None:
    """One gradient a step: APGD 10, towards each of 3 other classes 10, FAB 10 each.

    Every gradient has its forward pass; Square's 20 queries come on top, and a few looks.
    """
    model, x, y = linear(4)
    handed = Handed(model, Access.GRADIENTS, SAMPLES)
    threat = Lp("linf", 0.5 * least(model, x, y, "linf"))
    autoattack(handed, x, y, threat, random=keyed(0, IDS), steps=10, queries=20)
    assert bool((handed.backwards >= 65).all())
    assert bool((handed.backwards <= 70).all())
    looks = handed.forwards - handed.backwards - 20
    assert bool((looks >= 0).all())
    assert bool((looks <= 30).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_neither_companions_nor_order_matter(norm: str) -> None:
    """Bit for bit, with budgets of which some suffice and some do not."""
    model, x, y = linear(4)
    net = nn.Sequential(model, nn.Tanh())
    threat = Lp(norm, least(model, x, y, norm) * torch.linspace(0.5, 1.6, SAMPLES))

    def run(rows: Tensor) -> Tensor:
        handed = Handed(net, Access.GRADIENTS, len(rows), block=8)
        part = threat.at(rows)
        return autoattack(
            handed, x[rows], y[rows], part, random=keyed(3, rows), steps=10, queries=20
        )

    together = run(IDS)
    for rows in (IDS.flip(0), IDS[:4], IDS[5:6]):
        assert torch.equal(run(rows), together[rows])


@pytest.mark.parametrize("options", [{"steps": 0}, {"queries": 1}, {"passes": 0}])
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    model, x, y = linear(2)
    with pytest.raises(BadOption):
        autoattack(model, x, y, Lp("linf", 0.1), random=keyed(0, IDS), **options)


class Shaky(nn.Module):
    """A model whose answers change from call to call: its weights are w + noise, with a margin."""

    def __init__(self, model: nn.Module, size: float) -> None:
        super().__init__()
        self.model, self.size = model, size
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        layer = self.model[1]
        noise = torch.randn(layer.weight.shape, generator=self.generator)
        return x.flatten(1) @ (layer.weight + self.size * noise).T + layer.bias


def test_rand_fools_a_model_that_answers_at_random() -> None:
    """A step of 0.1 beyond the mean model's border turns the logits by far more than the noise.

    Sixteen weight differences of about 1 in size move the gap by some 1.6; noise by 0.1 · √2 · ‖x‖,
    about 0.3.
    """
    model, x, y = linear(4)
    shaky = Shaky(model, 0.1)
    threat = Lp("linf", least(model, x, y, "linf") + 0.1)
    candidate = autoattack(
        shaky, x, y, threat, random=keyed(0, IDS), version="rand", steps=20, passes=5
    )
    assert bool(threat.contains(candidate, x).all())
    with torch.no_grad():
        wrong = torch.stack([shaky(candidate).argmax(1) != y for _ in range(20)])
    assert wrong.double().mean() > 0.9


def test_every_pass_of_rand_is_counted() -> None:
    """A robust sample: 2 walks of 10 steps and a last look, 3 passes each; the rest are looks."""
    model, x, y = linear(4)
    handed = Handed(Shaky(model, 0.01), Access.GRADIENTS, SAMPLES)
    threat = Lp("linf", 0.5 * least(model, x, y, "linf"))
    autoattack(handed, x, y, threat, random=keyed(0, IDS), version="rand", steps=10, passes=3)
    assert bool((handed.backwards == 2 * 10 * 3).all())
    # At rest and at the end of each walk 3 more without a gradient, and one after each stage.
    assert bool((handed.forwards == 2 * (10 + 2) * 3 + 2).all())
