"""The exam of detectors, with models and detectors whose scores are known by hand."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from trustml import registry
from trustml.benchmarks.detected import read
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import cases, checked, size
from trustml.benchmarks.harness import RECORDS, resume
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import load_data
from trustml.benchmarks.verify import verify
from trustml.chains import read_chain
from trustml.contracts import Record
from trustml.errors import BadInput, BadOption, BrokenClaim, UnknownName
from trustml.recipes import choose

Run = Callable[..., list[Record]]
SMALL = {"models": ("mlp:epochs=5,hidden=[16]",), "data": "digits", "attacks": ()}


@pytest.fixture
def found(run: Run) -> dict[str, Record]:
    """A small network on digits, seen by four detectors, told from two sets."""
    records = run(
        **SMALL, detectors=("mcp", "knn", "react+energy", "odin"), outside=("noise", "inverted")
    )
    return {record.plugin: record for record in records}


def test_a_row_for_the_model_and_one_a_detector(found: dict[str, Record]) -> None:
    assert list(found) == ["calibration", "mcp", "knn", "react+energy", "odin+mcp"]
    assert all(record.status == "done" for record in found.values())
    assert found["mcp"].threat["outside"] == ["noise", "inverted"]
    assert found["mcp"].threat["learnt from"] == "1078 training samples"
    assert "react.percentile" in found["react+energy"].options
    for record in list(found.values())[1:]:
        worst = min(record.scores[f"{name}: auroc"].value for name in ("noise", "inverted"))
        assert record.scores["worst auroc"].value == worst


def test_scores_are_those_of_scikit_learn(found: dict[str, Record], tmp_path: Path) -> None:
    """AUROC against the reference, from the suspicions on disk; MCP by hand from the model."""
    from sklearn.metrics import roc_auc_score

    stored = read(tmp_path / "run" / CASES / found["mcp"].case / SAMPLES)
    for name in ("noise", "inverted"):
        both = torch.cat([stored["test"], stored[f"set {name}"]])
        label = torch.cat([torch.zeros(len(stored["test"])), torch.ones(len(both))])[: len(both)]
        wanted = roc_auc_score(label, both)
        assert found["mcp"].scores[f"{name}: auroc"].value == pytest.approx(wanted, abs=1e-12)
    wanted = roc_auc_score(stored["wrong"], stored["test"])
    assert found["mcp"].scores["errors: auroc"].value == pytest.approx(wanted, abs=1e-12)
    accuracy = 1 - float(stored["wrong"].double().mean())
    assert found["calibration"].scores["accuracy"].value == pytest.approx(accuracy)


def test_the_gate_is_read_off_validation_data(found: dict[str, Record], tmp_path: Path) -> None:
    """What it stops of the test set is near what was asked for: 5 %, up to binomial noise."""
    for name in ("mcp", "knn"):
        alarms = found[name].scores["false alarms"]
        assert alarms.low - 0.05 < 0.05 < alarms.high + 0.05
        stored = read(tmp_path / "run" / CASES / found[name].case / SAMPLES)
        share = float((stored["test"] > stored["threshold"]).double().mean())
        assert alarms.value == pytest.approx(share)


def test_the_run_is_verified_and_a_forged_score_is_not(
    found: dict[str, Record], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    assert len(list(verify(folder))) == 5
    lines = [json.loads(line) for line in (folder / RECORDS).read_text().splitlines()]
    lines[1]["scores"]["noise: auroc"]["value"] = 0.999
    (folder / RECORDS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BrokenClaim, match="do not follow from the suspicions"):
        list(verify(folder))


def test_a_changed_byte_of_the_suspicions_is_found(
    found: dict[str, Record], tmp_path: Path
) -> None:
    file = tmp_path / "run" / CASES / found["mcp"].case / SAMPLES
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(BrokenClaim, match="is not the file that the record"):
        list(verify(tmp_path / "run"))


def test_a_resumed_run_has_the_same_records(found: dict[str, Record], tmp_path: Path) -> None:
    """Without its last line, and with outputs from the cache."""
    file = tmp_path / "run" / RECORDS
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    *_, last = resume(tmp_path / "run")
    assert last.scores == found["odin+mcp"].scores
    assert last.samples == found["odin+mcp"].samples


def test_attacked_inputs_are_a_set_where_attacks_were_run(run: Run) -> None:
    """Both exams in one run: what PGD made is one more set to be told apart."""
    records = run(
        **{**SMALL, "attacks": ("pgd:steps=5",)}, detectors=("mcp",), outside=("noise",), limit=100
    )
    mcp = next(record for record in records if record.plugin == "mcp")
    assert any(name.startswith("pgd linf") for name in mcp.scores)


def test_what_does_not_suit_the_model_is_skipped_with_its_reason(run: Run) -> None:
    records = run(**SMALL, detectors=("mutual_information", "mcp"), outside=("noise",))
    assert [r.status for r in records] == ["done", "skipped", "done"]
    assert "draws of a Bayesian network" in records[1].reason


def test_a_bayesian_model_is_asked_for_draws(run: Run) -> None:
    model = "bnn:posterior=mc_dropout,epochs=2"
    records = run(models=(model,), data="digits", attacks=(), detectors=("variation_ratio",),
                  outside=("noise",), limit=50)  # fmt: skip
    assert [r.status for r in records] == ["done", "done"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mcp+energy", "mcp scores, so that nothing can follow it"),
        ("reakt+energy", "did you mean 'react'"),
        ("react:percentil=3+energy", "did you mean 'percentile'"),
    ],
)
def test_chains_that_cannot_work_are_refused(text: str, said: str) -> None:
    with pytest.raises((BadOption, UnknownName), match=said):
        read_chain(text)


def test_a_front_end_alone_is_scored_as_its_paper_does() -> None:
    assert read_chain("odin").name == "odin+mcp"
    assert read_chain("react").name == "react+energy"
    assert read_chain("ash+knn").back_end.plugin.name == choose("detector", "knn").plugin.name


def test_sets_that_will_not_do_are_named(plan: Plan) -> None:
    plan = replace(plan, **{**SMALL, "detectors": ("mcp",)})
    digits = load_data("digits", None)
    with pytest.raises(BadInput, match="--ood nois: no out-of-distribution set named 'nois'; did"):
        cases(checked(replace(plan, outside=("nois",))), digits)
    with pytest.raises(BadOption, match="--false-alarms must lie between 0 and 1, not 2"):
        checked(replace(plan, false_alarms=2.0))


def test_a_set_of_another_shape_says_how_to_convert(run: Run) -> None:
    with pytest.raises(BadInput, match=r"--ood moons: .*shape \(2,\).*npz:path="):
        run(**SMALL, detectors=("mcp",), outside=("moons",))


def test_the_cases_are_counted(plan: Plan) -> None:
    plan = checked(replace(plan, **{**SMALL, "detectors": ("mcp", "knn")}, seeds=2))
    assert size(plan) == len(cases(plan, load_data("digits", None))) == 9


class _Outside(nn.Module):
    """A model asked from outside: answers, and no features."""

    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(10, 64))
        self.constant = constant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = x.flatten(1) @ self.weight.T
        return logits * 0 if self.constant else logits

    def fit(self, *given: object) -> list[object]:
        return []


@pytest.fixture
def outside_model() -> Iterator[None]:
    @registry.model(source="a test")
    def from_outside(domain: object, /, *, constant: bool = False) -> nn.Module:
        """Answer what ten of the entries are."""
        return _Outside(constant)

    yield
    registry._plugins.pop(("model", "from_outside"))


def test_features_are_not_seen_from_outside(run: Run, outside_model: None) -> None:
    """Detectors of features are skipped with the reason, those of answers are not."""
    changes = {**SMALL, "models": ("from_outside",), "limit": 100}
    names = ("knn", "fusion", "react+energy", "mcp", "odin")
    records = run(**changes, detectors=names, outside=("noise",), aware=True)
    assert [r.status for r in records[1:]] == ["skipped"] * 3 + ["done"] * 2
    assert all("needs features" in r.reason for r in records[1:4])


def test_a_constant_suspicion_is_blind_and_says_so(run: Run, outside_model: None) -> None:
    changes = {**SMALL, "models": ("from_outside:constant=true",), "limit": 100}
    record = run(**changes, detectors=("mcp",), outside=("noise",))[-1]
    assert record.scores["noise: auroc"].value == 0.5
    assert record.scores["noise: stopped"].value == 0
    assert any("same suspicion" in note for note in record.notes)


def test_sets_that_show_the_classes_have_an_accuracy(run: Run) -> None:
    """Inverted digits have right answers, noise has none."""
    record = run(**SMALL, detectors=("mcp",), outside=("noise", "inverted"))[0]
    assert 0 <= record.scores["inverted: accuracy"].value < record.scores["accuracy"].value
    assert "noise: accuracy" not in record.scores


def test_blind_precision_is_the_odd_share(found: dict[str, Record], tmp_path: Path) -> None:
    """It stands among the scores, so that no note has to repeat it for each detector."""
    stored = read(tmp_path / "run" / CASES / found["mcp"].case / SAMPLES)
    odd, even = len(stored["set noise"]), len(stored["test"])
    assert found["mcp"].scores["noise: base rate"].value == pytest.approx(odd / (odd + even))
    assert not found["mcp"].notes


def test_a_gate_that_stops_nothing_says_so(run: Run) -> None:
    """A promise of one in a thousand takes 999 validation samples; digits have 90 for it."""
    record = run(**SMALL, detectors=("mcp",), outside=("noise",), false_alarms=0.001)[-1]
    assert record.scores["noise: stopped"].value == 0
    assert any("the gate stops nothing" in note for note in record.notes)
