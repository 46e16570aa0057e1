"""One bound on all that a server is asked: held to the last query, said before, gone on with."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from tests.targets.servers import StandIn, late, say
from trustml.audit.agenda import Item, Pace, seconds, work
from trustml.audit.black_box import BLACK_BOX
from trustml.audit.preparing import prepared
from trustml.audit.sections import Subject
from trustml.audit.stealing import STEALING
from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.cli.main import cli
from trustml.contracts import Access
from trustml.errors import BadInput, UsageError
from trustml.ledger import Ledger

SERVED = Subject(Access.PROBABILITIES, "quick", True, ("linf",), remote=True, outside=6)


def _audit(*words: str) -> Result:
    return CliRunner().invoke(cli, ["audit", *words])


def _lines(ended: Result) -> dict[str, Any]:
    return {line["section"]: line for line in map(json.loads, ended.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_budget_ends_a_section_and_a_higher_one_goes_on(served: StandIn, tmp_path: Path) -> None:
    """The server itself counts as many inputs as the ledger; what was finished is not asked again.

    A budget of 600 ends the black box, since 20 inputs and 50 queries each are planned.
    """
    url, home = f"{served.url}/v2/models/digits", tmp_path / "audit"
    ended = _audit(url, "--depth", "quick", "--out", str(home), "--budget", "600", "--json")
    assert ended.exit_code == 1, ended.output
    lines = _lines(ended)
    assert lines["black_box"]["reason"].startswith("stopped by the query budget: of 600 queries")
    for name in ("stealing", "doubt"):
        assert lines[name]["grade"] == "not examined"
        assert lines[name]["reason"] == "not tested: budget spent"
    asked = Ledger(home / "queries").asked
    assert asked == served.rows <= 600
    facts = json.loads((home / "findings.json").read_text())
    assert facts["queries"] == {"asked": asked, "budget": 600}
    page = (home / "report.html").read_text(encoding="utf-8")
    assert "not tested: budget spent" in page
    assert f"{asked:,} of at most 600" in page
    # The next section: what the black box has finished is kept to the byte.
    more = str(asked + 1500)
    ended = _audit("--resume", str(home), "--budget", more, "--json")
    lines = _lines(ended)
    assert lines["black_box"]["findings"], lines["black_box"]
    assert lines["stealing"]["reason"].startswith("stopped by the query budget")
    record = home / "sections" / "black_box" / "records.jsonl"
    before = record.read_bytes()
    ended = _audit("--resume", str(home), "--budget", "0", "--json")
    assert ended.exit_code == 0, ended.output
    again = _lines(ended)
    assert record.read_bytes() == before
    assert again["black_box"] == lines["black_box"]
    assert again["stealing"]["findings"]
    assert again["doubt"]["findings"]
    assert Ledger(home / "queries").asked == served.rows


def test_what_is_asked_again_is_counted(served: StandIn, tmp_path: Path, open_target: Any) -> None:
    """A server that refuses every third request: each input that was sent is in the ledger."""
    from trustml.ledger import entered_in

    sent: list[int] = []
    model = served._model

    def counted(handler: Any, body: Any) -> None:
        sent.append(body["inputs"][0]["shape"][0])
        if len(sent) % 3 == 0:
            say(handler, 503, {})
        else:
            model(handler, body)

    served._model = counted  # type: ignore[method-assign]
    book = Ledger(tmp_path / "queries")
    with entered_in(book):
        import torch

        target = open_target(f"{served.url}/v2/models/digits:batch=5")
        target(torch.rand(40, 1, 8, 8))
    assert book.asked == sum(sent)


def test_a_budget_is_for_servers_and_large_enough_to_begin(served: StandIn, tmp_path: Path) -> None:
    url = f"{served.url}/v2/models/digits"
    out = ("--out", str(tmp_path / "audit"), "--depth", "quick")
    ended = _audit("logistic:epochs=1", *out, "--budget", "100")
    assert isinstance(ended.exception, BadInput)
    assert "counts what a server is asked" in str(ended.exception)
    ended = _audit(url, *out, "--budget", "30")
    assert isinstance(ended.exception, UsageError)
    assert "of 30 queries" in str(ended.exception)
    assert served.rows <= 30
    ended = _audit(url, *out, "--budget", "-1")
    assert "--budget -1" in str(ended.exception)
    assert not (tmp_path / "audit" / "audit.json").exists()


def test_the_estimate_has_the_wire_and_the_rate_in_it() -> None:
    """50 inputs × 1,000 queries and 50 clean ones: 16 a request at 10 requests a second."""
    item = Item(BLACK_BOX, BLACK_BOX.plan(Plan(("x",)), SERVED))
    there, _ = work(item, SERVED)
    assert there == 50 * 2 * 500 + 50 + 24
    assert seconds(item, SERVED, Pace(0.01, 0.1)) == pytest.approx(there * 0.01)
    held = seconds(item, SERVED, Pace(1e-6, 1e-6, rate=10.0, batch=16))
    assert held == pytest.approx(there / 16 / 10)
    # A thief may ask for one input after the other: the way there and back counts for each of its
    # 2,000 queries, and not for what its copy is judged by.
    item = Item(STEALING, STEALING.plan(Plan(("x",)), SERVED))
    rest = work(item, SERVED)[0] - 2000
    assert seconds(item, SERVED, Pace(0.01, 0.1)) == pytest.approx(2000 * 0.1 + rest * 0.01)
    held = seconds(item, SERVED, Pace(1e-6, 1e-6, rate=10.0, batch=16))
    assert held == pytest.approx((2000 + rest / 16) / 10)


def test_a_server_is_asked_about_no_more_training_samples_than_test_ones(
    served: StandIn, tmp_path: Path
) -> None:
    """Of 40 test samples at most 40 of each other split and set, and all of them are told of."""
    url = f"{served.url}/v2/models/digits"
    plan = Plan((url,), detectors=("mcp",), limit=40, outside=("noise", "gaussian"))
    calibration, detector = list(start(plan, tmp_path / "run"))
    assert detector.status == "done", detector.reason
    # What opens the model and reads the test samples, then training, validation, test and two sets.
    assert 5 * 40 < served.rows < 5 * 40 + 200
    for record in (calibration, detector):
        told = next(note for note in record.notes if "the server was asked about" in note)
        assert "40 of 1,078 training and 40 of 180 validation samples" in told, told
        assert record.threat["learnt from"] == "40 training samples"
        assert record.threat["tuned on"] == "the first 20 validation samples"
    assert len(list(verify(tmp_path / "run"))) == 2


def test_an_audit_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    """How cuDNN chooses is as before once an audit is prepared."""
    held = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    try:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
        prepared(Plan(("logistic:epochs=1",)), "quick", tmp_path / "audit")
        after = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = held
    assert after == (True, False)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_what_is_said_before_bounds_what_is_asked(served: StandIn, tmp_path: Path) -> None:
    """The number of queries is an upper bound, within a factor of three; minutes know the wire."""
    url = f"{served.url}/v2/models/digits:rate=400"
    served.trouble = late(0.002)
    home = tmp_path / "audit"
    ended = _audit(url, "--depth", "quick", "--out", str(home), "--budget", "90000")
    assert ended.exit_code == 0, ended.output
    text = " ".join(ended.output.split())
    said = re.search(r"at most ([\d,]+) inputs asked about, and about \d+ (s|min)", text)
    assert said is not None, ended.output
    queries = int(said[1].replace(",", ""))
    assert queries / 3 < served.rows < queries + 300
    assert "400 requests a second" in text
    assert "Its budget is 90,000 queries" in text
    assert "so the budget is enough" in text
