"""Exported programs: equal to the module that they came from, and never a way in for code."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.targets.conftest import Net, gradient, inputs
from trustml.contracts import Access
from trustml.errors import BadInput


def _export(net: Net, path: Path, batch: int | None = None) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if batch is None else None
    torch.export.save(
        torch.export.export(net, (torch.zeros(batch or 2, 1, 8, 8),), dynamic_shapes=shapes), path
    )
    return path


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_answers_and_gradients_are_the_source_modules(
    net: Net, tmp_path: Path, open_target: Any, batch: int | None
) -> None:
    """The module itself is the truth; a program exported for a fixed batch is asked in such."""
    target = open_target(str(_export(net, tmp_path / "net.pt2", batch)))
    x = inputs(10)
    with torch.no_grad():
        torch.testing.assert_close(target(x), net(x), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient(target.module, x), gradient(net, x), rtol=0, atol=1e-5)
    assert target.access == Access.GRADIENTS
    assert target.says == Access.LOGITS
    assert target.deterministic
    assert target.domain.shape == (1, 8, 8)


def _changed(path: Path, change: Any) -> Path:
    """Rewrite the archive, each member by `change(name, content)`; None leaves it out."""
    out = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return out


class _Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "it ran"))


def test_a_pickle_in_the_archive_is_not_run(net: Net, tmp_path: Path, open_target: Any) -> None:
    """A canary: unpickling it would write a file, as torch.export.load alone would do."""
    canary = tmp_path / "canary"
    held = io.BytesIO()
    torch.save(_Canary(canary), held)
    bad = _changed(
        _export(net, tmp_path / "net.pt2"),
        lambda name, content: (
            held.getvalue() if name.endswith("sample_inputs/model.pt") else content
        ),
    )
    with pytest.raises(BadInput, match="would run code; it was not run"):
        open_target(str(bad))
    assert not canary.exists()
    torch.load(io.BytesIO(held.getvalue()), weights_only=False)
    assert canary.exists(), "the canary could not sing, so the test shows nothing"


def test_an_opaque_constant_is_not_unpickled(net: Net, tmp_path: Path, open_target: Any) -> None:
    """Constants that are no tensors are unpickled by plain pickle: they are refused by name."""
    canary = tmp_path / "canary"
    told = {
        "config": {
            "c": {
                "path_name": "opaque_obj_0",
                "is_param": False,
                "use_pickle": True,
                "tensor_meta": None,
            }
        }
    }

    def change(name: str, content: bytes) -> bytes:
        return json.dumps(told).encode() if name.endswith("constants_config.json") else content

    bad = _changed(_export(net, tmp_path / "net.pt2"), change)
    with zipfile.ZipFile(bad, "a") as archive:
        top = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{top}/data/constants/opaque_obj_0", pickle.dumps(_Canary(canary)))
    with pytest.raises(BadInput, match="opaque_obj_0"):
        open_target(str(bad))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"torch.ops.aten.gelu.default", b"torch.os.system"),
        (b"torch.ops.aten.gelu.default", b"_operator.attrgetter"),
        (b"Symbol(", b"__import__(chr(111)+chr(115)).system("),
    ],
)
def test_a_graph_that_calls_other_things_is_refused(
    net: Net, tmp_path: Path, open_target: Any, old: bytes, new: bytes
) -> None:
    """A node may name any function of torch's modules, and sizes are evaluated as Python."""
    path = _export(net, tmp_path / "net.pt2")
    open_target(str(_changed(path, lambda name, content: content)))  # as it is, it opens
    bad = _changed(path, lambda name, content: content.replace(old, new))
    with pytest.raises(BadInput, match="none of the operations"):
        open_target(str(bad))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"not a zip"])
def test_a_file_that_is_none_is_one_clear_line(
    tmp_path: Path, open_target: Any, content: bytes
) -> None:
    """No traceback of zipfile or torch reaches a person."""
    (tmp_path / "a.pt2").write_bytes(content)
    with pytest.raises(BadInput, match=r"a\.pt2 is no exported program"):
        open_target(str(tmp_path / "a.pt2"))
