"""The exam of stealing in the harness: known thefts, terms, budgets, and what verify holds to."""

import copy
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load, save
from torch import nn

from trustml import registry
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.stealing import read_terms
from trustml.benchmarks.thefts import _transfer
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Record, Score, Split
from trustml.errors import BadOption, BrokenClaim, TrustError, UnknownName
from trustml.files import file_hash
from trustml.records import to_line
from trustml.reports.table import render
from trustml.reports.theft_figure import theft_picture

Run = Callable[..., list[Record]]
VICTIM: dict[str, Any] = {"models": ("logistic:epochs=2",), "data": "digits", "attacks": ()}


def rewrite(path: Path, row: int = -1, **changes: Any) -> None:
    """Change one record of a run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[row] |= changes
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_logits_give_the_whole_model_away(run: Run, tmp_path: Path) -> None:
    """D + 1 = 65 answers in float64 are solved to rounding; two more queries check the copy."""
    _, record = run(**VICTIM, stealers=("linear_exact",), terms="answers=logits,precision=float64")
    assert record.status == "done", record.reason
    assert record.scores["agreement (test)"].value == 1.0
    assert record.scores["parameter error"].value < 1e-12
    assert record.cost.queries == 67
    assert record.threat["victim"]["answers"] == "logits"
    assert [r.case for r in verify(tmp_path / "run")] == ["logistic-service", record.case]


def test_what_the_terms_do_not_show_cannot_be_stolen(run: Run) -> None:
    """Labels are too little for it, ten queries too few: skipped, with what would do."""
    _, record = run("labels", **VICTIM, stealers=("linear_exact",), terms="answers=labels")
    assert record.status == "skipped"
    assert "linear_exact needs probabilities" in record.reason
    assert re.search("would do: .*knockoff, linear_labels$", record.reason)
    _, record = run("few", **VICTIM, stealers=("linear_exact",), budget=10)
    assert record.status == "skipped"
    assert "65" in record.reason


def test_a_learnt_copy_has_a_curve(run: Run, tmp_path: Path) -> None:
    """More queries, better agreement than at the beginning; the last point is the copy."""
    _, record = run(**VICTIM, stealers=("knockoff",), terms="answers=probabilities")
    assert record.status == "done", record.reason
    stored = load((tmp_path / "run" / CASES / record.case / SAMPLES).read_bytes())
    queries, agreement = stored["curve: queries"], stored["curve: agreement"]
    assert bool((queries.diff() > 0).all())
    assert float(agreement[-1]) == record.scores["agreement (test)"].value
    assert float(agreement[-1]) >= float(agreement[0]) - 0.05
    assert 0.5 < record.scores["agreement (test)"].value <= 1.0


def test_a_forged_answer_is_found_out(run: Run, tmp_path: Path) -> None:
    _, record = run(**VICTIM, stealers=("linear_exact",), terms="answers=logits")
    file = tmp_path / "run" / CASES / record.case / SAMPLES
    stored = load(file.read_bytes())
    stored["test"] = stored["test"].roll(1, dims=1)
    file.write_bytes(save({name: part.contiguous() for name, part in stored.items()}))
    rewrite(tmp_path / "run" / RECORDS, samples=file_hash(file))
    with pytest.raises(BrokenClaim, match=r"agreement \(test\) does not follow"):
        list(verify(tmp_path / "run"))


def test_one_seed_gives_one_theft(run: Run) -> None:
    _, one = run("one", **VICTIM, stealers=("knockoff",))
    _, same = run("same", **VICTIM, stealers=("knockoff",))
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
        ({"countermeasures": ("rounding",)}, "did you mean 'rounded'"),
        ({"countermeasures": ("rounded:decimals=0",)}, "decimals=0 is not allowed"),
        ({"countermeasures": ("rounded:digits=2",)}, "did you mean|Known: decimals"),
        ({"countermeasures": ("rounded",), "terms": "answers=logits"}, "answers logits"),
    ],
)
def test_what_cannot_be_asked_is_refused(plan: Plan, changes: dict[str, Any], said: str) -> None:
    wanted = replace(plan, attacks=(), stealers=("linear_exact",))
    with pytest.raises((BadOption, UnknownName, TrustError), match=said):
        checked(replace(wanted, **changes))


def test_the_copy_s_recipe_may_be_another(run: Run) -> None:
    """A network of another size learns from the labels of a linear victim."""
    _, record = run(
        **VICTIM, stealers=("knockoff",), terms="answers=labels", copy="mlp:hidden=[16]"
    )
    assert record.status == "done", record.reason
    assert str(record.threat["copy"]).startswith("mlp:")
    assert torch.tensor(record.scores["transfer"].value).isfinite()


def test_what_was_seen_of_the_service_stands_beside_its_thieves(run: Run, tmp_path: Path) -> None:
    """A softmax regression lies on a line; ordinary users get the model's own accuracy."""
    service, record = run(**VICTIM, stealers=("auto",), terms="answers=probabilities")
    seen = service.threat["seen"]
    assert (seen["answers"], seen["affine"], seen["kinks"]) == ("probabilities", True, 0)
    assert seen["methods"][0] == "linear_exact"
    assert service.cost.queries == seen["queries"]
    assert service.scores["refused"].value == 0.0
    right = record.scores["accuracy of the copy"].value
    assert service.scores["accuracy"].value == right, "an exact copy"
    assert "method linear_exact" in record.notes[0]
    assert record.scores["agreement (test)"].value == 1.0
    # The fingerprint, 40 checks, D+1 = 65 answers and 2 more.
    assert record.cost.queries == seen["queries"] + 40 + 67
    for name in ("99 %", "99.9 %", "exact"):
        assert record.scores[f"queries to {name}"].value == record.cost.queries
    rewrite(tmp_path / "run" / RECORDS, 0, threat=service.threat | {"seen": seen | {"kinks": 3}})
    with pytest.raises(BrokenClaim, match="fingerprint is not that of the model"):
        list(verify(tmp_path / "run"))


def test_countermeasures_stand_beside_none(run: Run, tmp_path: Path) -> None:
    """Two decimals stop the exact solver, not the fit; an account of 60 stops both."""
    records = run(
        **VICTIM,
        stealers=("linear_exact", "linear_rounded"),
        countermeasures=("rounded:decimals=2", "account:queries=60"),
    )
    by = {record.case.removeprefix("logistic-"): record for record in records}
    assert len(by) == 9
    bare, rounded = by["linear_rounded"], by["rounded-linear_rounded"]
    assert by["rounded-linear_exact"].status == "skipped"
    assert by["rounded-linear_exact"].cost.queries >= 65
    assert rounded.threat["countermeasure"] == "rounded:decimals=2"
    assert rounded.scores["queries to 99 %"].value <= bare.cost.queries == 325
    assert rounded.scores["× queries at equal agreement"].value >= 1.0
    assert "× queries at equal agreement" not in bare.scores
    refused = by["account-linear_rounded"]
    assert refused.status == "skipped", "the countermeasure worked: nothing has failed"
    assert "the account is closed" in refused.reason
    assert by["account-linear_exact"].status == "skipped"
    users = {name: by[f"{name}service"].scores for name in ("", "rounded-", "account-")}
    assert users["rounded-"]["accuracy"] == users[""]["accuracy"], "the label stays"
    assert users["rounded-"]["ece"] != users[""]["ece"]
    count = len(load((tmp_path / "run" / CASES / bare.case / SAMPLES).read_bytes())["test"])
    assert users["account-"]["refused"].value == pytest.approx(1 - 60 / count)
    assert users["account-"]["first refusal"].value == 61
    assert len(list(verify(tmp_path / "run"))) == 9
    path = theft_picture(tmp_path / "run")
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    text = "\n".join(_text(part) for part in render(records))
    assert "what 23 queries tell" in text
    assert "answers have 2 decimals; rounding to none was stated" in text
    assert "walk through" in text
    assert records[5] == rounded
    rewrite(
        tmp_path / "run" / RECORDS, 5,
        scores=json.loads(to_line(rounded))["scores"] | {
            "queries to 99 %": {"value": 1.0, "low": 1.0, "high": 1.0, "better": "higher"}
        },
    )  # fmt: skip
    with pytest.raises(BrokenClaim, match="queries to 99 % does not follow"):
        list(verify(tmp_path / "run"))


def _text(part: object) -> str:
    screen = Console(width=200, record=True, file=StringIO())
    screen.print(part)
    return screen.export_text()


def test_a_theft_that_fails_keeps_what_it_was_told(run: Run, tmp_path: Path) -> None:
    """The thief breaks after 12 answers: they lie beside the record, with what they cost."""

    def broken(victim: Any, pool: Any, fresh: Any, /, *, random: Any) -> Any:
        victim(pool[:12])
        raise RuntimeError("lost")

    broken.__doc__ = "Break."
    registry.stealer(source="a test", needs=Access.LABELS)(broken)
    _, record = run(**VICTIM, stealers=("broken",))
    assert record.status == "failed"
    assert "lost" in record.reason
    assert record.reason.endswith("; 12 queries were answered before it stopped")
    assert record.cost.queries == 12
    assert "12 queries were answered" in record.notes[0]
    stored = load((tmp_path / "run" / CASES / record.case / SAMPLES).read_bytes())
    assert (len(stored["asked"]), stored["told"].shape) == (12, (12, 10))
    assert len(list(verify(tmp_path / "run"))) == 2


def test_a_victim_that_stops_leaves_what_it_had_answered(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers two blocks of the thief's 200 queries and no more: 128 lie beside the record."""
    (tmp_path / "tired.py").write_text(
        "import torch\ndef make():\n"
        "    weight = torch.rand(64, 10, generator=torch.Generator().manual_seed(0))\n"
        "    make.left = 10_000\n"
        "    def answer(x):\n"
        "        make.left -= len(x)\n"
        "        if make.left < 0: raise RuntimeError('rate limit')\n"
        "        return x.flatten(1) @ weight\n"
        "    return answer\n"
    )

    def patient(victim: Any, pool: Any, fresh: Any, /, *, random: Any) -> Any:
        next(m for n, m in sys.modules.items() if n.endswith("_tired")).make.left = 128
        return victim(pool[:200])

    patient.__doc__ = "Ask."
    registry.stealer(source="a test", needs=Access.LABELS)(patient)
    models = (f"{tmp_path / 'tired.py'}:make",)
    _, record = run(**VICTIM | {"models": models}, stealers=("patient",))
    assert record.status == "failed"
    assert "rate limit" in record.reason
    assert record.reason.endswith("; 128 queries were answered before it stopped")
    stored = load((tmp_path / "run" / CASES / record.case / SAMPLES).read_bytes())
    assert (len(stored["asked"]), stored["told"].shape) == (128, (128, 10))


def _bench(model: nn.Module) -> Any:
    """Just what transfer needs: 40 inputs in [0, 1], read rightly by the model itself."""
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        y = model(x).argmax(1)
    split = Split(x, y, torch.arange(40), 10)
    setting = SimpleNamespace(module=model, split=split, right=torch.ones(40, dtype=torch.bool))
    dataset = SimpleNamespace(budgets={"linf": 0.06})
    return SimpleNamespace(setting=setting, dataset=dataset, device=torch.device("cpu"), memory={})


def test_transfer_is_of_what_fools_the_copy() -> None:
    """All of it for the model itself, though the attack fails on some; none for a rock."""
    torch.manual_seed(0)
    victim = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bench = _bench(victim)
    same = _transfer(copy.deepcopy(victim), bench, 0)
    assert isinstance(same, Score)
    assert same.value == 1.0
    bench.setting.right[:] = False
    assert "reads no input rightly" in str(_transfer(victim, bench, 0))


def test_where_the_copy_is_fooled_nowhere_there_is_no_transfer() -> None:
    """The budget is far too small to move any answer: nothing could be passed on."""
    torch.manual_seed(0)
    victim = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    bench = _bench(victim)
    bench.dataset.budgets["linf"] = 1e-7
    assert _transfer(victim, bench, 0) == "pgd:steps=10 makes the copy misread none of 40 inputs"


def test_the_verdict_is_by_the_row_when_a_model_cannot_be_had(run: Run) -> None:
    """Terms that the model cannot keep: each row says so, and nothing is printed twice."""
    records = run(**VICTIM, stealers=("knockoff",), budget=5)
    service, record = records
    assert "stopped" in service.threat["seen"], "a budget of 5 ends before the fingerprint does"
    assert record.status == "done"
    assert "".join(_text(part) for part in render(records)).count("Verdict") == 1
