"""Samples in flight: what is asked, or doubled until the device's memory is used to its share."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trustml.benchmarks import batch_rows as module
from trustml.benchmarks.batch_rows import USUAL, batch_rows, grown
from trustml.benchmarks.harness import finished, start
from trustml.benchmarks.plan import Plan, read_plan
from trustml.benchmarks.verify import verify

MIB = 2**20


def a_row_takes(bytes_a_row: int, limit: int = 1 << 62) -> Callable[[int], int]:
    """Return a device's memory: straight in the rows, and out beyond the limit."""

    def takes(rows: int) -> int:
        if rows * bytes_a_row > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return rows * bytes_a_row

    return takes


@pytest.mark.parametrize(
    ("a_row", "free", "samples", "rows"),
    [
        # Half of 4096 MiB hold 2048 rows of 1 MiB.
        (MIB, 4096 * MIB, 10**6, 2048),
        # One MiB less, and the last doubling would go beyond the half.
        (MIB, 4095 * MIB, 10**6, 1024),
        # No more than holds all the samples.
        (1, 4096 * MIB, 1000, 1024),
        # Not even the least: it is tried, and halved on the way if it must.
        (MIB, 10 * MIB, 10**6, 256),
        # Never beyond 65 536.
        (1, 1 << 50, 10**9, 65536),
    ],
)
def test_rows_double_within_half_of_the_memory(
    a_row: int, free: int, samples: int, rows: int
) -> None:
    assert grown(a_row_takes(a_row), free, samples, 256) == rows


def test_memory_that_is_out_earlier_than_it_said() -> None:
    """512 rows fit, 1024 do not: the half of what failed is taken."""
    assert grown(a_row_takes(MIB, 600 * MIB), 10**6 * MIB, 10**6, 256) == 512
    assert grown(a_row_takes(MIB, 10 * MIB), 10**6 * MIB, 10**6, 256) == 256


def test_it_is_found_once_a_model_and_a_number_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "found_rows", lambda bench: calls.append(1) or 4096)
    bench: Any = SimpleNamespace(plan=Plan(("mlp",), batch_size=0), memory={})
    assert [batch_rows(bench), batch_rows(bench)] == [4096, 4096]
    assert len(calls) == 1
    assert batch_rows(SimpleNamespace(plan=Plan(("mlp",), batch_size=7), memory={})) == 7  # type: ignore[arg-type]


def test_a_run_with_auto_says_what_it_found(tmp_path: Path) -> None:
    """On a CPU the usual number; the run is verified, and its verdicts are those of any other."""
    asked = {"attacks": ("fgsm",), "limit": 20, "device": "cpu", "indicators": False}
    plan = Plan(("mlp:hidden=[4],epochs=1",), batch_size=0, deterministic=True, **asked)
    records = list(start(plan, tmp_path / "auto"))
    assert {record.place["batch_size"] for record in records} == {USUAL}
    assert all(record.place["deterministic"] for record in records)
    assert read_plan(tmp_path / "auto").batch_size == 0
    assert len(list(verify(tmp_path / "auto", "cpu"))) == len(records)
    assert not torch.are_deterministic_algorithms_enabled()
    plan = Plan(("mlp:hidden=[4],epochs=1",), batch_size=3, **asked)
    list(start(plan, tmp_path / "three"))
    pairs = zip(finished(tmp_path / "auto"), finished(tmp_path / "three"), strict=True)
    assert all(one.samples == other.samples for one, other in pairs)
    assert "batch_size" not in finished(tmp_path / "three")[0].place


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_on_a_gpu_what_is_found_fits(tmp_path: Path) -> None:
    plan = Plan(
        ("mlp:epochs=1",), attacks=("pgd:steps=3",), batch_size=0, device="cuda", indicators=False
    )
    for record in start(plan, tmp_path / "run"):
        assert record.place["batch_size"] % 256 == 0
        assert record.cost.peak_mib is not None or record.kind == "union"
        assert not any("out of memory" in note for note in record.notes)
