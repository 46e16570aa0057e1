"""The exam of inspections: exact p-values, backdoors planted and found, what verify sees."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load, save

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.inspection import least_controls
from trustml.benchmarks.inspection_cases import scores_of
from trustml.benchmarks.inspection_controls import oddness, seeds
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.pooling import pooled
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.errors import BadOption, BrokenClaim, UnknownName
from trustml.files import file_hash
from trustml.reports.inspection_picture import inspection_pictures
from trustml.reports.table import render

Run = Callable[..., list[Record]]
QUICK: dict[str, Any] = {
    "models": ("mlp:hidden=[32],epochs=12,patience=0",),
    "data": "digits",
    "attacks": (),
    "controls": 4,
    "false_alarms": 0.2,
}
LOOK = "neural_cleanse:steps=60,samples=8"


def test_a_p_value_is_even_for_honest_models() -> None:
    """Honest models are alike, so a rank among 20 is even: 5 % of p-values are at most 0.05.

    Classes of different means and spreads, correlated within a model; 2000 draws: 0.05 ± 0.01
    holds with two standard deviations. Without the model itself in the means it would be more.
    """
    draw = torch.Generator().manual_seed(0)
    spread, middle = torch.tensor([1.0, 5.0, 0.2, 1.0]), torch.tensor([0.0, 9.0, 2.0, -4.0])
    alarms = 0
    for _ in range(2000):
        shared = torch.randn(20, 1, generator=draw)
        values = middle + spread * (torch.randn(20, 4, generator=draw) + shared)
        own, controls = oddness(values[0], values[1:])
        alarms += (1 + int((controls >= own.amax()).sum())) / 20 <= 0.05
    assert abs(alarms / 2000 - 0.05) < 0.011


def test_oddness_by_hand() -> None:
    """One class, three others of 0, 1 and 2: mean 1 and spread 1, so 5 lies 4 of them above."""
    own, controls = oddness(torch.tensor([5.0]), torch.tensor([[0.0], [1.0], [2.0]]))
    assert own.tolist() == pytest.approx([4.0])
    # Of the control 0 the others are 5, 1, 2: mean 8/3, variance 13/3.
    assert float(controls[0]) == pytest.approx(-(8 / 3) / (13 / 3) ** 0.5)


def test_the_scores_by_hand() -> None:
    """Odder than all four controls: p = 1/5, and the alarm needs a rate of that."""
    controls = torch.tensor([[0.0, 0.1], [0.2, 0.0], [0.1, 0.3], [0.3, 0.2]])
    found = {
        "suspicion": torch.tensor([0.1, 9.0]),
        "controls": controls,
        "right": torch.tensor([1, 1, 0, 1]),
        "hit": torch.tensor([1, 0]),
        "target": torch.tensor(1),
    }
    scores = scores_of(found, 0.2)
    assert scores["p value"].value == pytest.approx(0.2)
    assert scores["alarm raised"].value == 1
    assert scores["oddest class"].value == 1
    assert scores["auroc"].value == 1
    assert scores["trigger works"].value == 0.5
    assert scores["target named"].value == 1
    assert scores["accuracy"].value == 0.75
    quiet = scores_of(found, 0.19)
    assert quiet["alarm raised"].value == 0
    assert quiet["target named"].value == 0


def test_a_planted_backdoor_is_found_kept_and_verified(run: Run, tmp_path: Path) -> None:
    """A tenth of digits carry a 2×2 patch: the odder model of the two, its target named."""
    poison = "badnets:rate=0.1,target=3,size=2"
    records = run(**QUICK, inspections=(LOOK,), poisons=(poison,))
    honest, bad = (record for record in records if record.kind == "inspection")
    assert honest.status == bad.status == "done", (honest.reason, bad.reason)
    assert bad.scores["trigger works"].value > 0.9
    assert bad.scores["alarm raised"].value == 1
    assert bad.scores["oddest class"].value == 3
    assert bad.scores["target named"].value == 1
    assert bad.scores["deviations"].value > honest.scores["deviations"].value
    assert [r.case for r in verify(tmp_path / "run")] == [r.case for r in records]
    text = StringIO()
    for part in render(records):
        Console(file=text, width=100).print(part)
    assert "neural_cleanse of badnets" in " ".join(text.getvalue().split())
    drawn = inspection_pictures(tmp_path / "run")
    assert [path.stem for path in drawn] == [f"{r.case}-triggers" for r in (honest, bad)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)
    _tampered(tmp_path / "run", bad)


def _tampered(folder: Path, record: Record) -> None:
    """A suspicion that was made smaller does not verify, nor does a flattered score."""
    path = folder / CASES / record.case / SAMPLES
    found = load(path.read_bytes())
    found["suspicion"] = found["suspicion"] - 3
    path.write_bytes(save(found))
    lines = (folder / RECORDS).read_text()
    claimed = [json.loads(line) for line in lines.splitlines()]
    mine = next(one for one in claimed if one["case"] == record.case)
    mine["samples"] = file_hash(path)
    (folder / RECORDS).write_text("".join(json.dumps(one) + "\n" for one in claimed))
    with pytest.raises(BrokenClaim, match="looks otherwise"):
        list(verify(folder))


def test_a_model_from_a_file_is_compared_with_its_recipe(run: Run, tmp_path: Path) -> None:
    """The controls are trained: a file that they all came from would make them one model."""
    look = "maximum_margin:steps=5,starts=2"
    first, *_ = run("first", **QUICK, inspections=(look,))
    (weights,) = (tmp_path / "first/models").glob("*.safetensors")
    models = (f"{QUICK['models'][0]},weights={weights}",)
    given, *_ = run("given", **{**QUICK, "models": models}, inspections=(look,))
    assert given.status == "done", given.reason
    assert given.weights == first.weights
    assert given.scores == first.scores
    of_first, of_given = (
        torch.cat([load(path.read_bytes())["suspicion"] for path in sorted(kept)])
        for kept in ((tmp_path / name / "controls").rglob("*.*") for name in ("first", "given"))
    )
    assert torch.equal(of_first, of_given)
    assert len({float(row.sum()) for row in of_given}) == 4


def test_seeds_are_counted(run: Run) -> None:
    """Alarms over seeds are a share of models, with the Beta interval; a class has no mean."""
    records = run(**QUICK, seeds=2, inspections=("maximum_margin:steps=5,starts=2",))
    last = records[-1]
    assert last.kind == "pooled"
    assert "oddest class" not in last.scores
    alarms = [r.scores["alarm raised"].value for r in records[:-1]]
    assert last.scores["alarm raised"].value == sum(alarms) / 2
    yes = [replace(r, scores={"alarm raised": r.scores["alarm raised"]}) for r in records[:-1]]
    again = pooled(last, yes)
    assert again.scores["alarm raised"].high > again.scores["alarm raised"].low


def test_controls_have_seeds_of_their_own() -> None:
    """None of them is an examined model."""
    plan = Plan(models=("mlp",), controls=5)
    assert list(seeds(plan)) == [1000, 1001, 1002, 1003, 1004]
    assert list(seeds(replace(plan, seed=998, seeds=4))) == [1002, 1003, 1004, 1005, 1006]


def test_what_cannot_be_asked_is_refused() -> None:
    """Too few controls, no such inspection, a poison of finished weights, a rate that is none."""
    plan = Plan(models=("mlp",), inspections=("neural_cleanse",))
    assert least_controls(0.05) == 19
    assert least_controls(0.3) == 3
    with pytest.raises(BadOption, match="--controls 19 or more"):
        checked(replace(plan, controls=18))
    with pytest.raises(UnknownName, match="neural_cleanse"):
        checked(replace(plan, inspections=("neural_clense",)))
    with pytest.raises(BadOption, match="share from 0 to 1"):
        checked(replace(plan, poisons=("badnets:rate=1.5",)))
    with pytest.raises(BadOption, match="false-alarms"):
        checked(replace(plan, false_alarms=0.0))
    every = checked(replace(plan, inspections=("all",))).inspections
    assert {text.split(":")[0] for text in every} >= {"neural_cleanse", "maximum_margin"}
