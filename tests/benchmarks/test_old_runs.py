"""Runs that earlier versions wrote, kept as they were: this version reads, checks and resumes them.

Each folder of tests/runs is the whole run of

    trustml bench --model logistic:epochs=1 --attack fgsm --limit 12 --device cpu --no-indicators

by the last version that wrote records of that schema.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from trustml.benchmarks import harness
from trustml.benchmarks.verify import verify
from trustml.errors import BadInput, BrokenClaim
from trustml.records import SCHEMA, UPGRADES, from_line, to_line

RUNS = Path(__file__).parent.parent / "runs"
CASES = ["certificate", "noise", "fgsm", "all"]


@pytest.fixture(params=sorted(UPGRADES))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the run of a schema."""
    copied = tmp_path / "run"
    shutil.copytree(RUNS / f"schema_{request.param}", copied)
    lines = (copied / harness.RECORDS).read_text().splitlines()
    assert {json.loads(line)["schema"] for line in lines} == {request.param}
    return copied


def test_an_old_run_is_read_and_its_claims_hold(run: Path) -> None:
    records = harness.finished(run)
    assert [record.case.split("-")[-1] for record in records] == CASES
    assert {record.schema for record in records} == {SCHEMA}
    assert list(verify(run, "cpu")) == records


def test_an_old_run_is_gone_on_with(run: Path) -> None:
    """The last two cases are made anew and are what they were, with what was optional since.

    The method may ask less than it did.
    """
    known = harness.finished(run)
    lines = (run / harness.RECORDS).read_bytes().splitlines(keepends=True)
    (run / harness.RECORDS).write_bytes(b"".join(lines[:2]))
    again = list(harness.resume(run))
    assert again[:2] == known[:2], "what was finished is not touched"
    for one, other in zip(again, known, strict=True):
        assert (one.status, one.notes) == (other.status, other.notes)
        assert other.options.items() <= one.options.items()
        assert one.cost.forwards <= other.cost.forwards
        # A projection's last bits are another machine's, or another version's.
        for name, score in other.scores.items():
            assert one.scores[name].value == pytest.approx(score.value, abs=1e-5), name


def test_an_option_that_the_record_leaves_out_is_at_its_default(run: Path) -> None:
    """Else a line could be said to be of another case than the one that was run."""
    plan = run / "plan.json"
    told = json.loads(plan.read_text())
    told["attacks"] = [text + ",step=0.01" * ("fgsm" in text) for text in told["attacks"]]
    plan.write_text(json.dumps(told))
    with pytest.raises(BrokenClaim, match="fgsm: what its record says is not what the plan says"):
        list(verify(run, "cpu"))


def test_a_run_of_a_newer_version_is_refused(run: Path) -> None:
    path = run / harness.RECORDS
    last = to_line(replace(from_line(path.read_text().splitlines()[-1]), schema=SCHEMA + 1))
    path.write_text(f"{path.read_text()}{last}\n")
    for read in (harness.finished, lambda folder: list(harness.resume(folder))):
        with pytest.raises(BadInput, match=rf"line 5: .*schema {SCHEMA + 1}.*upgrade"):
            read(run)
