"""The exam of stealing in the harness: known thefts, terms, budgets, and what verify holds to."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.stealing import read_terms
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Record
from trustml.errors import BadOption, BrokenClaim, TrustError, UnknownName
from trustml.files import file_hash

Run = Callable[..., list[Record]]
VICTIM: dict[str, Any] = {"models": ("logistic:epochs=2",), "data": "digits", "attacks": ()}


def test_logits_give_the_whole_model_away(run: Run, tmp_path: Path) -> None:
    """D + 1 = 65 answers in float64 are solved to rounding; two more queries check the copy."""
    (record,) = run(**VICTIM, stealers=("linear_exact",), terms="answers=logits,precision=float64")
    assert record.status == "done", record.reason
    assert record.scores["agreement (test)"].value == 1.0
    assert record.scores["parameter error"].value < 1e-12
    assert record.cost.queries == 67
    assert record.threat["victim"]["answers"] == "logits"
    assert [r.case for r in verify(tmp_path / "run")] == [record.case]


def test_what_the_terms_do_not_show_cannot_be_stolen(run: Run) -> None:
    """Labels are too little for it, ten queries too few: skipped, with what would do."""
    (record,) = run("labels", **VICTIM, stealers=("linear_exact",), terms="answers=labels")
    assert record.status == "skipped"
    assert "linear_exact" in record.reason
    (record,) = run("few", **VICTIM, stealers=("linear_exact",), budget=10)
    assert record.status == "skipped"
    assert "65" in record.reason


def test_a_learnt_copy_has_a_curve(run: Run, tmp_path: Path) -> None:
    """More queries, better agreement than at the beginning; the last point is the copy."""
    (record,) = run(**VICTIM, stealers=("knockoff",), terms="answers=probabilities")
    assert record.status == "done", record.reason
    stored = load((tmp_path / "run" / CASES / record.case / SAMPLES).read_bytes())
    queries, agreement = stored["curve: queries"], stored["curve: agreement"]
    assert bool((queries.diff() > 0).all())
    assert float(agreement[-1]) == record.scores["agreement (test)"].value
    assert float(agreement[-1]) >= float(agreement[0]) - 0.05
    assert 0.5 < record.scores["agreement (test)"].value <= 1.0


def test_a_forged_answer_is_found_out(run: Run, tmp_path: Path) -> None:
    (record,) = run(**VICTIM, stealers=("linear_exact",), terms="answers=logits")
    file = tmp_path / "run" / CASES / record.case / SAMPLES
    stored = load(file.read_bytes())
    stored["test"] = stored["test"].roll(1, dims=1)
    file.write_bytes(save({name: part.contiguous() for name, part in stored.items()}))
    path = tmp_path / "run" / RECORDS
    line = json.loads(path.read_text())
    line["samples"] = file_hash(file)
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(BrokenClaim, match=r"agreement \(test\) does not follow"):
        list(verify(tmp_path / "run"))


def test_one_seed_gives_one_theft(run: Run) -> None:
    (one,) = run("one", **VICTIM, stealers=("knockoff",))
    (same,) = run("same", **VICTIM, stealers=("knockoff",))
    assert one.samples == same.samples
    assert one.scores == same.scores


def test_the_terms_are_read(plan: Plan) -> None:
    terms = read_terms(replace(plan, terms="answers=top1,decimals=3,inputs=8-bit", budget=9))
    assert terms.answers == Access.TOP1
    assert (terms.decimals, terms.inputs, terms.budget) == (3, "8-bit", 9)
    assert read_terms(plan).answers == Access.PROBABILITIES


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"terms": "answers=logit"}, "logit"),
        ({"terms": "answer=logits"}, "did you mean 'answers'"),
        ({"terms": "decimals=two"}, "decimals"),
        ({"stealers": ("linear_exakt",)}, "did you mean 'linear_exact'"),
        ({"copy": "mpl"}, "did you mean 'mlp'"),
    ],
)
def test_what_cannot_be_asked_is_refused(plan: Plan, changes: dict[str, Any], said: str) -> None:
    wanted = replace(plan, attacks=(), stealers=("linear_exact",))
    with pytest.raises((BadOption, UnknownName, TrustError), match=said):
        checked(replace(wanted, **changes))


def test_the_copy_s_recipe_may_be_another(run: Run) -> None:
    """A network of another size learns from the labels of a linear victim."""
    (record,) = run(
        **VICTIM, stealers=("knockoff",), terms="answers=labels", copy="mlp:hidden=[16]"
    )
    assert record.status == "done", record.reason
    assert str(record.threat["copy"]).startswith("mlp:")
    assert torch.tensor(record.scores["transfer"].value).isfinite()
