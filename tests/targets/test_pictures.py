"""Folders of Transformers and models of timm: made here with random weights, never fetched."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.targets.conftest import gradient
from trustml.contracts import Access, Domain
from trustml.deployment import check_names
from trustml.errors import BadInput

PICTURES = Domain((3, 32, 32), 4)


def _pictures() -> torch.Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small ResNet of Transformers with names and a mean, as save_pretrained writes it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=4, layer_type="basic",
        id2label={n: name for n, name in enumerate("dcba")},
    )  # fmt: skip
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "net")
    words = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}
    (tmp_path / "net" / "preprocessor_config.json").write_text(json.dumps(words))
    return tmp_path / "net"


@pytest.mark.parametrize("name", ["{}", "{}/", "{}/config.json"])
def test_a_folder_is_its_model_after_its_own_normalisation(
    folder: Path, open_target: Any, name: str
) -> None:
    """Transformers' own model, given (x − mean) / std by hand, is the truth."""
    import transformers

    model = transformers.ResNetForImageClassification.from_pretrained(folder).eval()
    mean = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)

    def truth(x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(pixel_values=(x - mean) / 0.2).logits
        return logits

    target = open_target(name.format(folder), PICTURES)
    x = _pictures()
    torch.testing.assert_close(target(x), truth(x).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient(target.module, x), gradient(truth, x), rtol=0, atol=1e-5)
    assert target.access == Access.GRADIENTS
    assert target.class_names == tuple("dcba")
    with pytest.raises(BadInput, match=r"give the model classes=\[a,b,c,d\]"):
        check_names(target.module, tuple("abcd"))
    ordered = open_target(f"{folder}:classes=[a,b,c,d]", PICTURES)
    torch.testing.assert_close(ordered(x), target(x).flip(1), rtol=0, atol=0)


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "it ran"))


def test_a_pickle_among_the_weights_is_not_run(folder: Path, open_target: Any) -> None:
    """An old-style pytorch_model.bin with a canary in it, in place of the safe file."""
    canary = folder / "canary"
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save({"classifier.1.bias": _Canary(canary)}, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"not opened|no image classifier"):
        open_target(str(folder), PICTURES)
    assert not canary.exists()


def test_a_folder_of_something_else_is_one_line(tmp_path: Path, open_target: Any) -> None:
    """An empty folder, and one whose config names no model."""
    pytest.importorskip("transformers", reason="transformers is not installed")
    with pytest.raises(BadInput, match="no image classifier"):
        open_target(f"{tmp_path}/", PICTURES)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadInput, match="no image classifier"):
        open_target(f"{tmp_path}/", PICTURES)


def test_timm(tmp_path: Path, open_target: Any) -> None:
    """The model of timm itself, with the same weights, is the truth."""
    timm = pytest.importorskip("timm", reason="timm is not installed: trustml[timm]")
    model = timm.create_model("resnet10t", num_classes=4, in_chans=3).eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    target = open_target(f"timm/resnet10t:weights={tmp_path / 'w.pt'},mean=[0.5]", PICTURES)
    x = _pictures()
    torch.testing.assert_close(target(x), model(x - 0.5).detach(), rtol=0, atol=1e-5)
    assert target.access == Access.GRADIENTS
    with pytest.raises(BadInput, match="is untrained"):
        open_target("timm/resnet10t", PICTURES)
    with pytest.raises(BadInput, match="no architecture 'resnet9000'"):
        open_target("timm/resnet9000:weights=a.pt", PICTURES)
    with pytest.raises(BadInput, match="not of this model"):
        open_target(f"timm/resnet14t:weights={tmp_path / 'w.pt'}", PICTURES)
