"""Where and how a case is computed: devices, and a policy that is recorded and restored."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trustml.benchmarks import setting
from trustml.benchmarks.harness import start
from trustml.benchmarks.place import (
    _is_tf32,
    arithmetic,
    device_of,
    exact_arithmetic,
    forget_peak,
    peak_mib,
    place,
    sent,
)
from trustml.benchmarks.plan import Plan
from trustml.contracts import Split
from trustml.errors import BadInput, UnknownName

CPU = torch.device("cpu")


def state() -> tuple[object, ...]:
    """Everything that the policy touches."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        older = matmul.allow_tf32, cudnn.allow_tf32
    parts = [matmul, cudnn.conv, cudnn.rnn] if hasattr(matmul, "fp32_precision") else []
    return (
        *older, *(part.fp32_precision for part in parts), cudnn.benchmark, cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(), os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with arithmetic():
        yield


def fast() -> None:
    """Switch on what a person in a hurry switches on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False


@pytest.mark.parametrize("deterministic", [False, True])
def test_the_policy_holds_inside_and_is_restored(deterministic: bool) -> None:
    """Also after an error; older and newer words of torch can be read inside, and agree."""
    fast()
    before = state()
    assert _is_tf32()
    inside, said = [], {}

    def failing() -> None:
        with arithmetic(deterministic):
            inside.extend(state()[:5])
            said.update(place(CPU))
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert not any(value in (True, "tf32") for value in inside)
    assert state() == before
    assert said["tf32"] is False
    assert said["cudnn_benchmark"] is False
    assert said["deterministic"] is deterministic


def test_the_record_says_what_is_so() -> None:
    """Not what should be so: where somebody switched it on, the record says it."""
    fast()
    assert place(CPU)["tf32"] is True
    assert place(CPU)["cudnn_benchmark"] is True


def test_no_warning_and_no_mixture() -> None:
    """Warnings are errors here; torch raises where older and newer words are read and differ."""
    exact_arithmetic()
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_a_mixture_made_by_others_is_no_obstacle() -> None:
    """A person set the newer words only, which makes the older ones unreadable."""
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has the older words only")
    fast()
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    with arithmetic():
        assert place(CPU)["tf32"] is False
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.rnn.fp32_precision == "tf32"


def test_deterministic_asks_torch_and_cublas() -> None:
    with arithmetic(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("asked", ["cuda", "cuda:0", "cuda:3"])
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(BadInput, match=f"{asked}: torch sees 0 CUDA devices; try --device auto"):
        device_of(asked)


def test_a_number_beyond_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (9, 9))
    assert device_of("cuda:1") == torch.device("cuda:1")
    with pytest.raises(BadInput, match="torch sees 2 CUDA devices"):
        device_of("cuda:2")


def test_a_gpu_that_others_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """In exclusive mode the driver refuses a second process; the first words of its error stay."""

    def refuse(device: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nmore")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    with pytest.raises(BadInput, match="cuda: the GPU cannot be used") as caught:
        device_of("cuda")
    assert "busy or unavailable" in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BadInput, match="--device cpu"):
        device_of("auto")


@pytest.mark.parametrize("asked", ["gpu", "cuda:x", "tpu"])
def test_an_unknown_word(asked: str) -> None:
    with pytest.raises(UnknownName, match="no device named"):
        device_of(asked)


def test_memory_is_counted_where_torch_does() -> None:
    """A CPU's process holds much that is not of the case, so nothing is said of it."""
    forget_peak(CPU)
    assert peak_mib(CPU) is None
    if torch.cuda.is_available():
        device = torch.device("cuda")
        forget_peak(device)
        torch.zeros(2**20, device=device)  # 4 MiB
        assert (peak_mib(device) or 0) >= 4


def test_a_batch_arrives_whole() -> None:
    """On a CPU it stays where it is; a GPU gets equal bits."""
    x, y, ids = torch.rand(5, 2), torch.arange(5), torch.arange(5) + 10
    batch = Split(x, y, ids, 5, -1.0, 2.0)
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name in devices:
        there = sent(batch, torch.device(name))
        assert there.x.device.type == name
        for part, whole in ((there.x, x), (there.y, y), (there.ids, ids)):
            assert torch.equal(part.cpu(), whole)
        assert there.domain == batch.domain


def test_a_model_that_does_not_fit_fails_its_cases_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The GPU has no room for the first pass: a record says so, and the run goes on to its end."""

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nand more")

    monkeypatch.setattr(setting, "clean_logits", full)
    plan = Plan(("mlp:hidden=[4],epochs=1",), attacks=("fgsm",), limit=5, device="cpu")
    records = list(start(plan, tmp_path / "run"))
    assert records
    assert {record.status for record in records} == {"failed"}
    assert all("CUDA out of memory" in record.reason for record in records[:1])
    assert not any("\n" in record.reason for record in records)


def test_a_torch_with_the_older_words_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.9 a product's precision has one word."""
    older = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends.cuda, "matmul", older)
    assert _is_tf32()
    with arithmetic():
        assert older.allow_tf32 is False
        assert place(CPU)["tf32"] is False
    assert older.allow_tf32 is True
