"""The exam of explanations in the harness: fixed rows, truth on a linear model, verified maps."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.errors import BrokenClaim, UnknownName
from trustml.files import file_hash

Run = Callable[..., list[Record]]


@pytest.fixture
def found(run: Run) -> dict[str, Record]:
    """A linear model on digits, whose explanation is known exactly."""
    records = run(
        models=("logistic:epochs=5",), data="digits", attacks=(), attributions=("gradient",),
        limit=12,
    )  # fmt: skip
    return {record.plugin: record for record in records}


def test_the_fixed_rows_stand_beside_what_was_asked(found: dict[str, Record]) -> None:
    assert list(found) == ["linear_exact", "random", "blurred_random", "gradient", "beside_random"]
    assert all(record.status == "done" for record in found.values())


def test_the_exact_row_is_exact_and_the_random_one_is_not(found: dict[str, Record]) -> None:
    """On a linear model the weight row is complete for every baseline, up to float32's rounding."""
    assert found["linear_exact"].scores["completeness error"].value < 1e-5
    assert found["linear_exact"].scores["multi-baseline error"].value < 1e-5
    assert found["random"].scores["completeness error"].value > 0.1
    # The gradient of a linear model is its weight row, so the two agree perfectly.
    same = found["beside_random"].scores["agreement of linear_exact and gradient"].value
    assert same == pytest.approx(1.0)


def test_the_maps_are_verified(found: dict[str, Record], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert len(list(verify(folder))) == 5
    file = folder / CASES / found["gradient"].case / SAMPLES
    stored = load(file.read_bytes())
    stored["maps"][3, 0, 0] += 10 * stored["maps"].abs().max()
    file.write_bytes(save(stored))
    lines = [json.loads(line) for line in (folder / RECORDS).read_text().splitlines()]
    next(r for r in lines if r["plugin"] == "gradient")["samples"] = file_hash(file)
    (folder / RECORDS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BrokenClaim, match="makes other maps than those recorded"):
        list(verify(folder))


def test_a_method_that_does_not_suit_is_skipped(run: Run) -> None:
    """No weight row explains a network with hidden units."""
    records = run(
        models=("mlp:epochs=5,hidden=[16]",), data="digits", attacks=(), attributions=("gradient",),
        limit=10,
    )  # fmt: skip
    assert records[0].plugin == "linear_exact"
    assert records[0].status == "skipped"
    assert "not affine" in records[0].reason
    assert records[-1].status == "done"


def test_unknown_methods_are_named(plan: Plan) -> None:
    with pytest.raises(UnknownName, match="did you mean 'gradient'"):
        checked(replace(plan, attacks=(), attributions=("gradiant",)))


def test_maps_are_of_the_explained_inputs(found: dict[str, Record], tmp_path: Path) -> None:
    """Those of the twelve that are read rightly, one channel, eight by eight."""
    for name in ("random", "gradient"):
        maps = load((tmp_path / "run" / CASES / found[name].case / SAMPLES).read_bytes())["maps"]
        assert maps.shape[1:] == (1, 8, 8)
        assert 6 <= len(maps) <= 12
        assert bool(torch.isfinite(maps).all())
