"""The exam of explanations in the harness: fixed rows, truth on a linear model, verified maps."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS, finished, start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.errors import BrokenClaim, UnknownName
from trustml.files import file_hash
from trustml.registry import all_of

Run = Callable[..., list[Record]]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model on digits, whose explanation is known exactly: examined once for all."""
    plan = Plan(
        models=("logistic:epochs=5",), data="digits", attacks=(), attributions=("gradient",),
        limit=12, device="cpu",
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("once") / "run"
    list(start(plan, folder))
    return folder


@pytest.fixture
def found(once: Path, tmp_path: Path) -> dict[str, Record]:
    """The records of the run by method; a copy of it lies in tmp_path/run."""
    shutil.copytree(once, tmp_path / "run")
    return {record.plugin: record for record in finished(once)}


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


def test_what_weight_rows_give_away(found: dict[str, Record]) -> None:
    """One explanation of each of the ten classes is the whole linear model; noise is nothing."""
    assert found["gradient"].scores["queries to 99 %"].value == 10
    assert found["gradient"].scores["leaked agreement"].value == 1
    assert found["random"].scores["leaked agreement"].value < 0.99
    assert any("not within 500 explanations" in note for note in found["random"].notes)


def test_other_labels_make_other_maps(found: dict[str, Record]) -> None:
    """What never looks at the model agrees with itself; a slope that labels shaped does not."""
    assert found["random"].scores["data randomisation"].value == pytest.approx(1)
    assert abs(found["gradient"].scores["data randomisation"].value) < 0.3
    told = next(note for note in found["gradient"].notes if note.startswith("data randomisation"))
    # Ten classes, labels dealt out anew: about a tenth can be foretold from the inputs.
    assert 5 <= int(told.split("gives ")[1].split(" %")[0]) <= 30


def test_the_record_says_how_its_map_was_attacked(found: dict[str, Record]) -> None:
    """A weight row has no slope of its own, noise none at all: both are attacked by trial."""
    for name in ("gradient", "random"):
        told = [n for n in found[name].notes if n.startswith("stability under attack: attacked by")]
        assert told == ["stability under attack: attacked by 20 tried moves, without a gradient"]


def test_weights_from_a_file_have_no_second_model(
    run: Run, found: dict[str, Record], tmp_path: Path
) -> None:
    """How they were learnt is not known, so no model can be taught in the same way."""
    weights = next((tmp_path / "run" / "models").glob("*.safetensors"))
    records = run(
        "again", models=(f'logistic:weights="{weights}"',), data="digits", attacks=(),
        attributions=("gradient",), limit=4,
    )  # fmt: skip
    assert "data randomisation" not in records[-2].scores
    assert any("the weights come from a file" in note for note in records[-2].notes)


def test_few_inputs_have_no_median(run: Run) -> None:
    """No interval of 95 % for a median of four ends, so none is recorded; means are."""
    records = run(
        models=("logistic:epochs=2",), data="digits", attacks=(), attributions=("gradient",),
        limit=4,
    )  # fmt: skip
    assert "completeness error" not in records[-2].scores
    assert "deletion" in records[-2].scores
    assert any("inputs are too few for a median" in note for note in records[-2].notes)


def test_scores_follow_from_their_values(found: dict[str, Record], tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (tmp_path / "run" / RECORDS).read_text().splitlines()]
    for line in lines:
        if line["plugin"] == "gradient":
            line["scores"]["ROAD"]["value"] += 0.01
    (tmp_path / "run" / RECORDS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BrokenClaim, match="its ROAD does not follow from its values"):
        list(verify(tmp_path / "run"))


def test_what_is_level_with_the_best_is_named(found: dict[str, Record]) -> None:
    """The gradient of a linear model is its weight row: no figure can tell the two apart."""
    best = found["beside_random"].options["best"]["ROAD"]
    assert {best["case"], *best["not distinguishable"]} == {
        "logistic-linear_exact", "logistic-gradient"
    }  # fmt: skip
    assert "logistic-random" not in str(found["beside_random"].options["best"])


def test_cells_and_triggers_of_a_linear_model(found: dict[str, Record]) -> None:
    """Its weight row shares sums out as they are made; a trigger of 100 outweighs the rest."""
    for name in ("linear_exact", "gradient"):
        assert found[name].scores["mosaic localisation"].value == pytest.approx(1)
        assert found[name].scores["trigger localisation"].value > 0.9
    assert found["random"].scores["mosaic localisation"].value < 0.6


def test_all_methods_can_be_asked_for(plan: Plan) -> None:
    """Each once, the fixed rows in front."""
    asked = checked(replace(plan, attacks=(), attributions=("all",))).attributions
    named = [text.split(":")[0] for text in asked]
    assert sorted(named) == [plugin.name for plugin in all_of("attribution")]
    assert len(named) >= 19


def test_one_method_with_two_baselines_is_two_rows(run: Run) -> None:
    """Their agreement is between the two, and each is told apart by its number."""
    records = run(
        models=("mlp:epochs=5,hidden=[16]",), data="digits", attacks=(), limit=4,
        attributions=("integrated_gradients", "integrated_gradients:baseline=rival"),
    )  # fmt: skip
    names = records[-1].scores
    assert "agreement of integrated_gradients and integrated_gradients-2" in names


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
