"""ONNX files: onnxruntime's answers are the source's, converted gradients are autograd's."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.targets.conftest import Net, gradient, inputs
from trustml.contracts import Access, Domain
from trustml.errors import BadInput

onnx = pytest.importorskip("onnx", reason="onnx is not installed: trustml[onnx]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: trustml[onnx]")


def _export(module: nn.Module, path: Path, example: torch.Tensor, dynamic: bool = True) -> Path:
    """Write a module as ONNX by torch's tracing exporter, which is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), str(path), dynamo=False, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}} if dynamic else None,
        )  # fmt: skip
    return path


@pytest.mark.parametrize("dynamic", [True, False])
def test_answers_and_gradients_are_the_source_modules(
    net: Net, tmp_path: Path, open_target: Any, dynamic: bool
) -> None:
    """The source module under autograd is the truth, for a free and for a fixed batch."""
    path = _export(net, tmp_path / "net.onnx", torch.zeros(4, 1, 8, 8), dynamic)
    target = open_target(str(path))
    x = inputs()
    with torch.no_grad():
        torch.testing.assert_close(target(x), net(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient(target.module, x), gradient(net, x), rtol=0, atol=1e-5)
    assert target.access == Access.GRADIENTS


class _Residual(nn.Module):
    """Grouped, strided and dilated convolutions, a shortcut, a global mean and a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = nn.functional.leaky_relu(self.first(x), 0.2)
        second = nn.functional.hardswish(self.second(first)) + first
        pooled = torch.cat([second.mean((2, 3))[:, :4], second.amax((2, 3))[:, 4:]], 1)
        logits: torch.Tensor = self.head(self.norm(pooled)).clamp(-3, 3)
        return logits


class _Attention(nn.Module):
    """Patches as tokens, one attention, a softmax over more than the last axes' rank."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.head = nn.Linear(48, 12), nn.Linear(12, 36), nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3))
        q, k, v = self.qkv(tokens.flatten(1, 2)).chunk(3, -1)
        mixed = (q @ k.transpose(1, 2) / 12**0.5).softmax(-1) @ v
        logits: torch.Tensor = self.head(nn.functional.gelu(mixed).mean(1))
        return logits


@pytest.mark.parametrize("kind", [_Residual, _Attention])
def test_other_architectures_convert_to_the_same_gradients(
    kind: type[nn.Module], tmp_path: Path, open_target: Any
) -> None:
    """Operators that a digits network does not have."""
    torch.manual_seed(2)
    module = kind().eval()
    x = torch.rand(6, 3, 16, 16)
    path = _export(module, tmp_path / "net.onnx", x[:2])
    target = open_target(str(path), Domain((3, 16, 16), 5))
    assert target.access == Access.GRADIENTS, target.notes
    torch.testing.assert_close(target(x), module(x).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient(target.module, x), gradient(module, x), rtol=0, atol=1e-5)


def test_an_operator_without_conversion_is_named_and_scores_remain(
    tmp_path: Path, open_target: Any
) -> None:
    """Only gradients are lost: the runtime answers as before."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["z"]),
        helper.make_node("Celu", ["z"], ["y"]),
    ]
    weight = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, ["b", 1, 8, 8])],
        [helper.make_tensor_value_info("y", kind, ["b", 10])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save(model, tmp_path / "celu.onnx")
    target = open_target(str(tmp_path / "celu.onnx"))
    assert target.access == Access.LOGITS
    assert any("no conversion of its operators Celu" in note for note in target.notes)
    x = inputs(3)
    expected = nn.functional.celu(x.flatten(1) @ torch.from_numpy(weight))
    torch.testing.assert_close(target(x), expected, rtol=0, atol=1e-5)


def test_a_conversion_that_answers_otherwise_is_not_trusted(
    net: Net, tmp_path: Path, open_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong operator, planted: the runtime's answers stay, the gradients are refused."""
    from trustml.targets import _onnx_operators

    monkeypatch.setitem(_onnx_operators.OPERATORS, "Tanh", lambda x, a: torch.sin(x[0]))
    target = open_target(str(_export(net, tmp_path / "net.onnx", torch.zeros(2, 1, 8, 8))))
    assert target.access == Access.LOGITS
    assert any("misses the runtime" in note and "no gradients" in note for note in target.notes)
    x = inputs(3)
    torch.testing.assert_close(target(x), net(x).detach(), rtol=0, atol=1e-5)


def test_a_softmax_at_the_end_is_found_out(net: Net, tmp_path: Path, open_target: Any) -> None:
    """Probabilities are read as such; saying that they are logits is refused."""
    module = nn.Sequential(net, nn.Softmax(1)).eval()
    path = _export(module, tmp_path / "net.onnx", torch.zeros(2, 1, 8, 8))
    target = open_target(str(path))
    x = inputs(5)
    assert target.says == Access.PROBABILITIES
    torch.testing.assert_close(target(x), net(x).softmax(1).detach(), rtol=0, atol=1e-6)
    # What the harness sees are logits up to a shift: the same softmax, the same order.
    torch.testing.assert_close(target.module(x).softmax(1), target(x), rtol=0, atol=1e-6)
    with pytest.raises(BadInput, match="look like probabilities"):
        open_target(f"{path}:answers=logits")


def test_a_scikit_learn_model_converted_elsewhere(
    tmp_path: Path, open_target: Any, data: Any
) -> None:
    """skl2onnx writes labels, a ZipMap and other operators: its own model is the truth."""
    skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed")
    from sklearn.linear_model import LogisticRegression

    x, y = data.train.x.flatten(1).numpy(), data.train.y.numpy()
    model = LogisticRegression(max_iter=50, C=0.01, tol=1e-2).fit(x, y)
    for zipmap in (True, False):
        written = skl2onnx.to_onnx(model, x[:1], options={id(model): {"zipmap": zipmap}})
        (tmp_path / "model.onnx").write_bytes(written.SerializeToString())
        target = open_target(str(tmp_path / "model.onnx"))
        test = data.test.x[:50]
        truth = torch.from_numpy(model.predict_proba(test.flatten(1).numpy())).float()
        torch.testing.assert_close(target(test), truth, rtol=0, atol=1e-5)
        assert target.class_names == tuple("0123456789")
        assert target.access == Access.GRADIENTS, target.notes


def test_two_files_are_one_model(net: Net, tmp_path: Path, open_target: Any) -> None:
    """Weights in a file of their own are part of the hash: changing them is noticed."""
    path = _export(net, tmp_path / "net.onnx", torch.zeros(2, 1, 8, 8))
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    before = open_target(str(path))
    content = bytearray((tmp_path / "w.bin").read_bytes())
    content[4] ^= 1
    (tmp_path / "w.bin").write_bytes(content)
    assert open_target(str(path)).digest != before.digest


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x08\x08"])
def test_a_file_that_is_none_is_one_clear_line(
    tmp_path: Path, open_target: Any, content: bytes
) -> None:
    """No traceback of protobuf or onnxruntime reaches a person."""
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.onnx is no ONNX file"):
        open_target(str(tmp_path / "a.onnx"))
