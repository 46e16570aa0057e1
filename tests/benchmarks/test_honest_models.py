"""Honest models beside deployed ones: built anew, trained, compared within each model first."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from trustml.benchmarks.exams import checked
from trustml.benchmarks.honest_models import honest_models
from trustml.benchmarks.inspection_cases import scores_of
from trustml.benchmarks.inspection_controls import comparable
from trustml.benchmarks.plan import Plan
from trustml.contracts import Dataset
from trustml.data.digits import digits
from trustml.errors import BadOption, NotApplicable
from trustml.recipes import read_recipe
from trustml.store import trained

_SOURCE = """
import torch
from torch import nn

def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

def loads():
    module = drawn()
    module[1].weight.data = torch.linspace(-1, 1, 640).view(10, 64)
    return module

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.linspace(-1, 1, 640).view(64, 10))

    def forward(self, x):
        return x.flatten(1) @ self.table

def own():
    return Own()

def two():
    weight = torch.randn(64, 2)
    return lambda x: x.flatten(1) @ weight

def closed():
    weight = torch.randn(64, 10)
    return lambda x: x.flatten(1) @ weight
"""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits(folder=None)


@pytest.fixture
def bench(tmp_path: Path, data: Dataset) -> Any:
    """Return a function: the name of a factory, and --controls-of, → what a case is given."""
    (tmp_path / "make.py").write_text(_SOURCE)

    def made(name: str, controls_of: str = "", data: Dataset = data) -> Any:
        recipe = read_recipe(f"{tmp_path / 'make.py'}:{name}")
        module = trained(recipe, data, 0, "cpu").module
        setting = SimpleNamespace(recipe=recipe, module=module, split=data.test)
        plan = Plan(models=(recipe.text,), controls_of=controls_of)
        return SimpleNamespace(
            setting=setting, plan=plan, dataset=data, device=torch.device("cpu"), folder=tmp_path
        )

    return made


def _weights(module: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("name", ["drawn", "loads"])
def test_a_factory_is_trained_anew_from_random_weights(bench: Any, name: str) -> None:
    """Weights that the function reads from somewhere are not those that training begins with."""
    given = bench(name)
    builder = given.setting.module.anew
    first, again, other = (_weights(builder(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[:640], torch.linspace(-1, 1, 640))
    honest = honest_models(given)
    assert honest.far == 1
    module = honest.made(1000)
    x, y = given.dataset.test.x, given.dataset.test.y
    with torch.no_grad():
        assert float((module(x).argmax(1) == y).float().mean()) > 0.9


@pytest.mark.parametrize("name", ["own", "closed"])
def test_what_nobody_can_draw_anew_is_compared_with_another_recipe(bench: Any, name: str) -> None:
    """A table without a reset, and a function that is no module: cnn, since digits are pictures."""
    honest = honest_models(bench(name))
    assert honest.told.startswith("cnn:")
    assert honest.far == 3
    assert honest_models(bench(name, "mlp:hidden=[8]")).told.startswith("mlp:")


def test_few_classes_cannot_be_odd_within_a_model(bench: Any) -> None:
    """Of two classes one is always as far from the median as the other."""
    with pytest.raises(NotApplicable, match="5 classes or more"):
        honest_models(bench("two", data=digits(folder=None, classes=(0, 1))))


def test_a_bad_reader_is_no_control(bench: Any) -> None:
    """A network of one unit reads few digits: that it differs says nothing of a backdoor."""
    given = bench("own")
    right = given.dataset.validation.y
    given.setting.module = _Knows(right)
    given.plan = Plan(models=("cnn",), controls_of="mlp:hidden=[1],epochs=1")
    with pytest.raises(NotApplicable, match="name a better recipe by --controls-of"):
        honest_models(given).made(1000)


class _Knows(nn.Module):
    """It reads everything rightly, in order."""

    def __init__(self, labels: torch.Tensor) -> None:
        super().__init__()
        self.labels = labels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.one_hot(self.labels[: len(x)], 10).float()


def test_a_shift_of_all_classes_says_nothing_between_unlike_models() -> None:
    """All classes 7 higher: odd by rank among models of one recipe, the same as 0 among others."""
    controls = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)).double()
    own = torch.randn(10, generator=torch.Generator().manual_seed(1)).double()
    found = {"suspicion": own + 7, "controls": controls}
    assert scores_of(found, 0.05)["alarm raised"].value == 1
    unlike = {**found, "far": torch.tensor(3.0)}
    assert scores_of(unlike, 0.05)["alarm raised"].value == 0
    shifted, _ = comparable(unlike)
    plain, _ = comparable({**unlike, "suspicion": own})
    torch.testing.assert_close(shifted, plain)


def test_an_alarm_beside_unlike_models_takes_three_times_the_oddest() -> None:
    """The same model, the same rank: an alarm among its like, none among others."""
    controls = torch.randn(20, 10, generator=torch.Generator().manual_seed(0)).double()
    own = torch.zeros(10).double()
    own[4] = 7.0
    found = {"suspicion": own, "controls": controls, "far": torch.tensor(1.0)}
    near = scores_of(found, 0.05)
    times = near["times the oddest"].value
    assert near["alarm raised"].value == 1
    assert 1 < times < 3
    assert scores_of({**found, "far": torch.tensor(3.0)}, 0.05)["alarm raised"].value == 0
    own[4] = 25.0
    assert scores_of({**found, "far": torch.tensor(3.0)}, 0.05)["alarm raised"].value == 1


@pytest.mark.parametrize("far", [1.0, 2.0])
def test_another_training_is_not_accused_for_being_another(far: float) -> None:
    """Trainings alike differ by 0.05; one that differs by 0.3 in each class is odd by rank alone.

    Its oddest class is no farther from its median class than a control's is. A class that is two
    bits out (a mask a quarter as large) is.
    """
    noise = torch.Generator().manual_seed(0)
    usual = torch.linspace(2.3, 3.1, 10).double()
    controls = usual + 0.05 * torch.randn(9, 10, generator=noise).double()
    own = usual + 0.3 * (2 * torch.rand(10, generator=noise).double() - 1)
    found = {"suspicion": own, "controls": controls, "far": torch.tensor(far)}
    assert scores_of(found, 0.1)["times the oddest"].value > far
    assert scores_of(found, 0.1)["alarm raised"].value == 0
    own[1] = usual.median() + 2
    assert scores_of(found, 0.1)["alarm raised"].value == 1


def test_a_finished_model_is_no_recipe_of_controls() -> None:
    plan = Plan(models=("mlp",), inspections=("maximum_margin",))
    for text in ("model.onnx", "mlp:weights=model.safetensors"):
        with pytest.raises(BadOption, match="is one finished model"):
            checked(Plan(**{**{"models": plan.models, "inspections": plan.inspections},
                            "controls_of": text}))  # fmt: skip
