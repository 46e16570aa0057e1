"""The store: trained once, read back exactly, never tripped by a damaged or foreign file."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from trustml import store
from trustml.contracts import Dataset, Split
from trustml.errors import BadInput
from trustml.recipes import read_recipe
from trustml.store import build, default_cache_folder, trained
from trustml.weights import load_weights, weights_hash

RECIPE = read_recipe("mlp:hidden=[5],epochs=2,batch_size=16")


def part(start: int, count: int) -> Split:
    """Return a split of random inputs whose label is whether the first entry is above 1/2."""
    x = torch.rand(count, 3, generator=torch.Generator().manual_seed(start))
    return Split(x, (x[:, 0] > 0.5).long(), torch.arange(start, start + count), 2)


DATASET = Dataset("toy", part(0, 40), part(100, 20), part(200, 20), ("low", "high"), {})


def test_trains_once_and_reads_back_the_same(tmp_path: Path) -> None:
    """The second call does not train: same weights, same curve, same seconds."""
    first = trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    again = trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert first.weights_hash == again.weights_hash == weights_hash(again.module)
    assert first.curve == again.curve
    assert first.seconds == again.seconds
    assert not again.module.training
    assert torch.equal(first.module(DATASET.test.x), again.module(DATASET.test.x))
    assert not list(tmp_path.rglob(".*.*"))  # no file half-written


def test_another_recipe_seed_or_data_is_another_model(tmp_path: Path) -> None:
    """What decides the weights decides the place; test data do not decide them."""
    trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    other_recipe = read_recipe("mlp:hidden=[5],epochs=3,batch_size=16")
    other_data = replace(DATASET, train=part(1, 40))
    other_validation = replace(DATASET, validation=part(1, 20))
    assert not trained(other_recipe, DATASET, 0, "cpu", tmp_path).from_cache
    assert not trained(RECIPE, DATASET, 1, "cpu", tmp_path).from_cache
    assert not trained(RECIPE, other_data, 0, "cpu", tmp_path).from_cache
    assert not trained(RECIPE, other_validation, 0, "cpu", tmp_path).from_cache
    assert trained(RECIPE, replace(DATASET, test=part(7, 9)), 0, "cpu", tmp_path).from_cache


def test_fresh_trains_again_to_the_same_weights(tmp_path: Path) -> None:
    """Training is a function of recipe, data and seed, whatever the global random state."""
    first = trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    torch.manual_seed(12345)
    again = trained(RECIPE, DATASET, 0, "cpu", tmp_path, fresh=True)
    assert not again.from_cache
    assert again.weights_hash == first.weights_hash


@pytest.mark.parametrize("file", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "garbage"])
def test_a_damaged_cache_file_is_trained_over_and_said(
    tmp_path: Path, file: str, damage: str
) -> None:
    """Any damage ends in the right model and, where it can be seen, a note; never in a crash."""
    whole = trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    [path] = tmp_path.rglob(file)
    content = bytearray(path.read_bytes())
    middle = content.find(b'"weights": "') + 14 if file.endswith("json") else len(content) - 3
    content[middle] ^= 1
    damaged = {
        "truncate": path.read_bytes()[:-20], "empty": b"", "flip": bytes(content), "garbage": b"{x"
    }  # fmt: skip
    path.write_bytes(damaged[damage])
    result = trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    assert result.weights_hash == weights_hash(result.module) == whole.weights_hash
    assert not result.from_cache
    assert "damaged" in result.notes[0]
    mended = trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    assert mended.from_cache
    assert not mended.notes


def test_a_cache_that_cannot_be_written_costs_a_note(tmp_path: Path) -> None:
    """A file stands where the folder should be: the model still comes back."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = trained(RECIPE, DATASET, 0, "cpu", blocked)
    assert "could not be kept" in result.notes[0]
    assert not result.from_cache


def test_cache_folder_follows_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRUSTML_CACHE moves it."""
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path / "models"
    monkeypatch.delenv("TRUSTML_CACHE")
    assert "trustml" in str(default_cache_folder())


def test_weights_hash_sees_every_part() -> None:
    """Name, value, shape and type each change the hash; where the memory lies does not."""

    def hashed(**tensors: torch.Tensor) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return weights_hash(module)

    value = torch.arange(6.0)
    base = hashed(a=value)
    others = [
        hashed(b=value), hashed(a=value + 1), hashed(a=value.reshape(2, 3)),
        hashed(a=value.double()), hashed(a=value, b=torch.tensor(0)),
    ]  # fmt: skip
    assert len({base, *others}) == 6
    assert hashed(a=torch.arange(12.0)[::2] / 2) == base
    assert hashed(b=value, a=value) == hashed(a=value, b=value)


def body() -> nn.Sequential:
    """Return the layers of the recipe's model alone, as someone else would save them."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))


@pytest.mark.parametrize("form", ["exact", "sequential", "wrapped", "safetensors"])
def test_weights_from_a_file(tmp_path: Path, form: str) -> None:
    """Exact names, a plain Sequential's, wrapped ones and safetensors load to the same logits."""
    source = body()
    weights = source.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(weights, path)
    elif form == "exact":
        torch.save({f"body.{name}": tensor for name, tensor in weights.items()}, path)
    else:
        torch.save({"state_dict": weights, "epoch": 3} if form == "wrapped" else weights, path)
    recipe = read_recipe(f"mlp:hidden=[5],weights={path}")
    result = trained(recipe, DATASET, 0, "cpu", tmp_path / "cache")
    torch.testing.assert_close(result.module(DATASET.test.x), source(DATASET.test.x))
    assert result.curve == ()
    assert not (tmp_path / "cache").exists()


def module() -> nn.Module:
    """Return the recipe's module, untrained."""
    return build(RECIPE, DATASET.train.domain, 0)


def test_weights_of_another_model_name_what_differs(tmp_path: Path) -> None:
    """Missing and unexpected names and wrong shapes stand in one line."""
    path = tmp_path / "w.pt"
    torch.save(
        {"1.weight": torch.zeros(4, 3), "1.bias": torch.zeros(5), "9.x": torch.zeros(1)}, path
    )
    before = weights_hash(kept := module())
    with pytest.raises(BadInput) as caught:
        load_weights(kept, path)
    message = str(caught.value)
    assert "missing body.3.weight, body.3.bias" in message
    assert "unexpected body.9.x" in message
    assert "body.1.weight is (4, 3), not (5, 3)" in message
    assert weights_hash(kept) == before


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """A NaN in a file would only show up much later."""
    weights = body().state_dict()
    weights["1.weight"][0, 0] = torch.nan
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=r"not finite in body\.1\.weight"):
        load_weights(module(), tmp_path / "w.pt")


class Evil:
    """Pickles as a call to os.mkdir."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Return the call."""
        return os.mkdir, (self.place,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A pickle that would make a folder is refused, and makes none."""
    torch.save({"1.weight": Evil(str(tmp_path / "made"))}, tmp_path / "w.pt")
    with pytest.raises(BadInput, match="could run code"):
        load_weights(module(), tmp_path / "w.pt")
    assert not (tmp_path / "made").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    """torch.save(model) holds code paths, not tensors alone."""
    torch.save(body(), tmp_path / "w.pt")
    with pytest.raises(BadInput, match="could run code"):
        load_weights(module(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.pt", None, "no such file"),
        ("w.onnx", b"x", r"must end in \.safetensors, \.pt or \.pth"),
        ("w.pt", b"", "w.pt"),
        ("w.pt", b"not a file of tensors", "w.pt"),
        ("w.safetensors", b"\xff" * 30, "cannot be read"),
        ("w.safetensors", b"", "cannot be read"),
    ],
)
def test_files_that_are_no_weights(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """Each ends in one line that names the file."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=message) as caught:
        load_weights(module(), path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 0.999), safe=st.booleans())
def test_a_truncated_file_is_refused_wherever_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, cut: float, safe: bool
) -> None:
    """No cut of a file may pass for the whole or raise anything but BadInput."""
    folder = tmp_path_factory.mktemp("cut")
    path = folder / ("w.safetensors" if safe else "w.pth")
    weights = body().state_dict()
    if safe:
        save_file(weights, path)
    else:
        torch.save(weights, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(BadInput):
        load_weights(module(), path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 3}, {}, torch.zeros(3)])
def test_files_of_something_else_are_refused(tmp_path: Path, content: object) -> None:
    """Only a dict of tensors is a state dict."""
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadInput, match="must hold a state_dict"):
        load_weights(module(), tmp_path / "w.pt")


def test_a_checkpoint_of_a_training_loop_holds_weights_under_one_key(tmp_path: Path) -> None:
    """Whatever it is called: epochs and an optimizer's state are no weights."""
    saved, kept = body(), module()
    optimizer = torch.optim.Adam(saved.parameters())
    loop = {"epoch": 3, "model_state_dict": saved.state_dict(), "opt": optimizer.state_dict()}
    torch.save(loop, tmp_path / "w.pt")
    load_weights(kept, tmp_path / "w.pt")
    assert all(
        torch.equal(kept.state_dict()[f"body.{n}"], t) for n, t in loop["model_state_dict"].items()
    )
    torch.save({**loop, "ema": saved.state_dict()}, tmp_path / "two.pt")
    with pytest.raises(BadInput, match=r"model_state_dict and ema hold tensors each.*\['model_st"):
        load_weights(module(), tmp_path / "two.pt")
    torch.save({"epoch": 3, "best": 0.1}, tmp_path / "none.pt")
    with pytest.raises(BadInput, match=r"must hold a state_dict.*; it holds epoch, best"):
        load_weights(module(), tmp_path / "none.pt")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """A folder named like a file is refused."""
    (tmp_path / "w.pt").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        load_weights(module(), tmp_path / "w.pt")


def test_what_was_written_can_be_read_by_people(tmp_path: Path) -> None:
    """The JSON beside the weights says recipe, data, seed and curve."""
    trained(RECIPE, DATASET, 5, "cpu", tmp_path)
    [path] = tmp_path.rglob("model.json")
    facts = json.loads(path.read_text())
    assert facts["recipe"] == RECIPE.model.text
    assert (facts["data"], facts["seed"], len(facts["curve"])) == ("toy", 5, 2)


def test_version_is_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of trustml may train otherwise, so it trains anew."""
    trained(RECIPE, DATASET, 0, "cpu", tmp_path)
    monkeypatch.setattr(store, "_version", lambda: "another")
    assert not trained(RECIPE, DATASET, 0, "cpu", tmp_path).from_cache
