"""Recipes with safeguards: their order, their cache, and what a stranger's safeguard may do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml import registry
from trustml.contracts import Dataset, Domain, Split
from trustml.data.digits import digits
from trustml.errors import BadInput, BadOption, MethodFailed
from trustml.guarding import accepted, doubt, sanitised
from trustml.recipes import read_recipe
from trustml.store import build, trained
from trustml.weights import load_weights, weights_hash


def part(start: int, count: int) -> Split:
    """Return a split of random inputs whose label is whether the first entry is above 1/2."""
    x = torch.rand(count, 3, generator=torch.Generator().manual_seed(start))
    return Split(x, (x[:, 0] > 0.5).long(), torch.arange(start, start + count), 2)


DATASET = Dataset("toy", part(0, 60), part(100, 40), part(200, 40), ("low", "high"), {})
PLAIN = "mlp:hidden=[5],epochs=2,batch_size=16"


@pytest.fixture
def planted() -> Iterator[Callable[..., None]]:
    """Return what registers a safeguard named `planted`; it is forgotten afterwards."""

    def plant(stage: Any, function: Callable[..., Any]) -> None:
        function.__name__, function.__doc__ = "planted", "Guard."
        registry._plugins.pop(("safeguard", "planted"), None)
        limits = {"beaten_by": "anybody", "does_not_stop": "anything"}
        registry.safeguard(source="a test", stage=stage, **limits)(function)

    yield plant
    registry._plugins.pop(("safeguard", "planted"), None)


def test_an_order_that_cannot_work_is_met_with_one_that_can() -> None:
    """Data, training, serving; within a stage the order is the user's."""
    with pytest.raises(BadOption, match=r"it is mlp\+confident_learning\+trades\+abstain"):
        read_recipe("mlp+abstain+confident_learning+trades")
    assert read_recipe("mlp+abstain+bit_depth").name == "mlp+abstain+bit_depth"


def test_weights_from_a_file_are_not_trained_again() -> None:
    """A safeguard that needs training cannot act on them; one in serving can."""
    with pytest.raises(BadOption, match="leave out weights="):
        read_recipe("mlp:weights=a.pt+trades")
    with pytest.raises(BadOption, match="leave out weights="):
        read_recipe("mlp:weights=a.pt+confident_learning+abstain")
    assert read_recipe("mlp:weights=a.pt+abstain").at("serving")


def test_a_guarded_model_is_learnt_once_and_comes_back(tmp_path: Path) -> None:
    """Same weights, threshold included; the model within is the one that is cached without it."""
    plain = trained(read_recipe(PLAIN), DATASET, 0, "cpu", tmp_path)
    recipe = read_recipe(f"{PLAIN}+bit_depth:bits=2+abstain:rate=0.1")
    first = trained(recipe, DATASET, 0, "cpu", tmp_path)
    again = trained(recipe, DATASET, 0, "cpu", tmp_path)
    assert first.curve == plain.curve
    assert first.weights_hash == again.weights_hash == weights_hash(again.module)
    assert not first.from_cache
    assert again.from_cache
    x = DATASET.test.x
    assert torch.equal(first.module(x), again.module(x))
    assert torch.equal(accepted(first.module, x), accepted(again.module, x))
    # The shades of two bits are 0, 1/3, 2/3 and 1.
    assert torch.equal(again.module(x), plain.module((x * 3).round() / 3))


def test_recipes_that_differ_in_a_guard_alone_are_different_models(tmp_path: Path) -> None:
    """Each in a place of its own; another rate is another threshold."""
    few, many = (
        trained(read_recipe(f"{PLAIN}+abstain:rate={rate}"), DATASET, 0, "cpu", tmp_path)
        for rate in (0.05, 0.5)
    )
    assert few.weights_hash != many.weights_hash
    assert not many.from_cache
    x = DATASET.test.x
    assert int(accepted(few.module, x).sum()) > int(accepted(many.module, x).sum())


def test_the_state_of_a_guarded_model_loads_into_another_build(tmp_path: Path) -> None:
    """What a run keeps and verifies later: the recipe builds it, the file fills it."""
    from safetensors.torch import save_file

    text = f"{PLAIN}+mixup+vae_purification:epochs=1,hidden=8,size=2+abstain:rate=0.1"
    recipe = read_recipe(text)
    made = trained(recipe, DATASET, 0, "cpu", tmp_path)
    save_file(made.module.state_dict(), tmp_path / "kept.safetensors")
    other = build(recipe, DATASET.train.domain, 0).eval()
    load_weights(other, tmp_path / "kept.safetensors")
    assert weights_hash(other) == made.weights_hash
    assert torch.equal(other(DATASET.test.x), made.module(DATASET.test.x))


def test_a_safeguard_of_the_training_leaves_the_model_alone(tmp_path: Path) -> None:
    """The scaffold is gone: names, shapes and first weights are those of the plain model."""
    plain = build(read_recipe(PLAIN), DATASET.train.domain, 0)
    recipe = read_recipe(f"{PLAIN}+mixup+trades:steps=1")
    assert weights_hash(build(recipe, DATASET.train.domain, 0)) == weights_hash(plain)
    made = trained(recipe, DATASET, 0, "cpu", tmp_path).module
    assert type(made) is type(plain)
    assert set(made.state_dict()) == set(plain.state_dict())


def test_a_damaged_guard_is_learnt_again_and_said(tmp_path: Path) -> None:
    """As for any cached model: a note, never a crash, and the same weights."""
    recipe = read_recipe(f"{PLAIN}+abstain:rate=0.1")
    first = trained(recipe, DATASET, 0, "cpu", tmp_path)
    [file] = tmp_path.glob("mlp+abstain-*/model.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    again = trained(recipe, DATASET, 0, "cpu", tmp_path)
    assert again.weights_hash == first.weights_hash
    assert any("damaged" in note for note in again.notes)


def test_data_are_cleaned_before_training(planted: Callable[..., None], tmp_path: Path) -> None:
    """A safeguard that turns every label round makes a model that is wrong throughout."""
    planted("data", lambda split: Split(split.x, 1 - split.y, split.ids, 2))
    long = "mlp:hidden=[16],epochs=60,batch_size=16,patience=0"
    x, y = DATASET.test.x, DATASET.test.y
    right = trained(read_recipe(long), DATASET, 0, "cpu", tmp_path).module(x).argmax(1) == y
    turned = read_recipe(f"{long}+planted")
    wrong = trained(turned, DATASET, 0, "cpu", tmp_path).module(x).argmax(1) == y
    assert float(right.double().mean()) > 0.8
    assert float(wrong.double().mean()) < 0.2


@pytest.mark.parametrize(
    ("stage", "function"),
    [
        ("data", lambda split: split.x),
        ("data", lambda split: 1 / 0),
        ("training", lambda fresh, domain: None),
        ("serving", lambda model, domain: "no module"),
        ("serving", lambda model, domain: model.no_such_thing),
    ],
)
def test_a_safeguard_that_breaks_its_contract_is_named(
    planted: Callable[..., None], tmp_path: Path, stage: str, function: Callable[..., Any]
) -> None:
    """One line with its name, whatever it raised or returned."""
    planted(stage, function)
    with pytest.raises(MethodFailed, match="safeguard planted"):
        trained(read_recipe(f"{PLAIN}+planted"), DATASET, 0, "cpu", tmp_path)


def test_learning_does_not_touch_the_model_within(
    planted: Callable[..., None], tmp_path: Path
) -> None:
    """Its weights are out of the graph while the guard learns."""

    class Greedy(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(x)
            return logits

        def learn(self, *_: Any) -> None:
            if any(weight.requires_grad for weight in self.model.parameters()):
                raise ValueError("not frozen")

    planted("serving", lambda model, domain: Greedy(model))
    trained(read_recipe(f"{PLAIN}+planted"), DATASET, 0, "cpu", tmp_path)


def test_no_data_safeguard_leaves_the_split_as_it_is() -> None:
    """Nothing is copied or checked for a plain model."""
    train, held = sanitised(read_recipe(PLAIN), DATASET, "cpu")
    assert torch.equal(train.x, DATASET.train.x)
    assert torch.equal(held.x, DATASET.validation.x)
    assert train.domain == Domain((3,), 2)


def test_training_and_validation_are_cleaned_together(planted: Callable[..., None]) -> None:
    """Every second sample of both goes; what is left stays in its part, by its id."""
    planted("data", lambda split: split.at(split.ids % 2 == 0))
    train, held = sanitised(read_recipe(f"{PLAIN}+planted"), DATASET, "cpu")
    assert train.ids.tolist() == list(range(0, 60, 2))
    assert held.ids.tolist() == list(range(100, 140, 2))
    assert torch.equal(held.x, DATASET.validation.x[::2])


def test_a_safeguard_that_leaves_nothing_is_named(planted: Callable[..., None]) -> None:
    """All of it, or all of the validation part."""
    planted("data", lambda split: split.at(slice(0)))
    with pytest.raises(BadInput, match="planted leaves no sample"):
        sanitised(read_recipe(f"{PLAIN}+planted"), DATASET, "cpu")
    planted("data", lambda split: split.at(split.ids < 100))
    with pytest.raises(BadInput, match="none for validation"):
        sanitised(read_recipe(f"{PLAIN}+planted"), DATASET, "cpu")


def test_a_gate_that_says_yes_or_no_doubts_by_one() -> None:
    """1 where it refuses, -1 where it accepts; a model without a gate has no doubts to tell."""

    class Strict(nn.Module):
        def accepts(self, x: Tensor) -> Tensor:
            return x[:, 0] > 0

    x = torch.tensor([[1.0], [-1.0]])
    found = doubt(Strict(), x)
    assert found is not None
    assert found.tolist() == [-1.0, 1.0]
    assert doubt(nn.Identity(), x) is None


def test_a_gate_behind_a_change_doubts_what_it_accepts_not() -> None:
    """`abstain` behind fewer shades: above 0 exactly where it refuses, with a gradient for BPDA."""
    data = digits(folder=None)
    recipe = read_recipe("mlp:epochs=2,hidden=[16]+abstain:rate=0.2+bit_depth")
    module = trained(recipe, data, 0, "cpu").module
    x = data.test.x[:80].clone().requires_grad_()
    found = doubt(module, x)
    assert found is not None
    assert torch.equal(found > 0, ~accepted(module, x))
    assert bool((found > 0).any())
    (slope,) = torch.autograd.grad(found.sum(), x)
    assert bool((slope != 0).any())
