"""Audits from end to end: of a server, of files, through the command line, and after trouble."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import skops.io
from click.testing import CliRunner, Result
from sklearn.linear_model import LogisticRegression

from tests.targets.servers import StandIn
from trustml.audit.sections import Subject
from trustml.benchmarks import harness
from trustml.cli.main import cli
from trustml.errors import BadInput, TrustError


def _audit(*words: str) -> Result:
    return CliRunner().invoke(cli, ["audit", *words])


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_server_is_audited_and_the_audit_is_read_by_other_programs(
    served: StandIn, tmp_path: Path
) -> None:
    """A linear model gives its weights away: that is a finding, so --fail-on high ends with 3."""
    url, home = f"{served.url}/v2/models/digits", tmp_path / "audit"
    words = ("--data", "digits", "--depth", "quick", "--out", str(home))
    ended = _audit(url, *words, "--json", "--fail-on", "high")
    assert ended.exit_code == 3, ended.output
    lines = {line["section"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert lines["stealing"]["grade"] in ("critical", "high")
    for name in ("robustness", "physical", "explaining"):
        assert lines[name]["grade"] == "not examined"
        assert "gradients" in lines[name]["reason"]
    assert lines["backdoor"]["grade"] == "passed"  # looked for by answers alone
    assert lines["black_box"]["findings"]
    assert lines["doubt"]["findings"]
    text = (home / "report.html").read_text(encoding="utf-8")
    assert "What is not known" in text
    for form, file in (
        ("junit", "junit.xml"),
        ("sarif", "report.sarif"),
        ("tests", "test_trust.py"),
    ):
        written = CliRunner().invoke(cli, ["report", str(home), "--to", form])
        assert written.exit_code == 0, written.output
        assert (home / file).is_file()
    suites = ElementTree.parse(home / "junit.xml").getroot()
    assert {suite.get("name") for suite in suites} == set(lines)
    assert suites.find("testsuite[@name='stealing']/testcase/failure") is not None
    assert len(suites.findall(".//skipped")) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_server_that_goes_down_in_the_middle(served: StandIn, tmp_path: Path) -> None:
    """What was finished is kept; the rest failed, which is no pass; --resume ends it."""
    url, home = f"{served.url}/v2/models/digits", tmp_path / "audit"
    down: list[bool] = []

    def trouble(number: int, handler: Any) -> bool:
        # A run that cannot begin leaves no folder, but the server stays down.
        if down or (home / "sections" / "stealing").exists():
            down.append(True)
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return True
        return False

    served.trouble = trouble
    ended = _audit(url, "--data", "digits", "--depth", "quick", "--out", str(home), "--json")
    assert ended.exit_code == 1, ended.output
    lines = {line["section"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert lines["black_box"]["findings"]
    assert lines["stealing"]["grade"] == lines["doubt"]["grade"] == "failed"
    assert "does not answer" in lines["stealing"]["reason"]
    record = home / "sections" / "black_box" / "records.jsonl"
    before = record.read_bytes()
    served.trouble = lambda number, handler: False
    ended = _audit("--resume", str(home), "--json")
    assert ended.exit_code == 0, ended.output
    again = {line["section"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert record.read_bytes() == before
    assert again["black_box"] == lines["black_box"]
    assert again["stealing"]["grade"] in ("critical", "high")
    assert again["doubt"]["findings"]


@pytest.mark.usefixtures("small")
def test_a_section_that_crashes_is_no_pass_and_does_not_end_the_audit(
    fitted: LogisticRegression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no error of the family foresees: said in one line, and the other sections go on."""
    start = harness.start

    def broken(plan: Any, folder: Path) -> Any:
        if folder.name == "stealing":
            raise KeyError("no such thing")
        return start(plan, folder)

    monkeypatch.setattr(harness, "start", broken)
    skops.io.dump(fitted, tmp_path / "model.skops")
    words = ("--data", "digits", "--depth", "quick", "--out", str(tmp_path / "audit"), "--json")
    ended = _audit(str(tmp_path / "model.skops"), *words)
    assert ended.exit_code == 1, ended.output
    lines = {line["section"]: line for line in map(json.loads, ended.stdout.splitlines())}
    assert lines["stealing"]["grade"] == "failed"
    assert lines["stealing"]["reason"].startswith("it crashed: KeyError: 'no such thing'")
    assert lines["black_box"]["findings"]


def _one_line(*words: str, match: str) -> None:
    """The command fails before it begins, by an error of the family, in one clear line."""
    ended = CliRunner().invoke(cli, ["audit", *words])
    assert isinstance(ended.exception, TrustError), ended.output
    said = " ".join(str(ended.exception).split())
    assert match in said, said


def test_bad_input_is_one_clear_line(
    served: StandIn, fitted: LogisticRegression, tmp_path: Path
) -> None:
    """Wrong port, class count, kind of answer, pickle, labels in words: nothing is begun."""
    import joblib

    url = f"{served.url}/v2/models/digits"
    out = ("--out", str(tmp_path / "audit"))
    _one_line("http://127.0.0.1:9/v2/models/digits", *out, match="Connection refused")
    _one_line(f"{served.url}/v2/models/other", *out, match="404")
    _one_line(url, "--data", "digits:classes=[0,1]", *out, match="the data have 2")
    _one_line(url, "--data", "moons", *out, match="the data have (2)")
    _one_line(url, "--answers", "labels", *out, match="labels")
    joblib.dump(fitted, tmp_path / "model.joblib")
    _one_line(str(tmp_path / "model.joblib"), *out, match="trust_pickle")
    _one_line(str(tmp_path / "none.onnx"), *out, match="no such file")
    _one_line("cnn", "--depth", "deep", *out, match="quick, standard, thorough")
    _one_line("cnn", "--controls-of", "cn", *out, match="cnn")
    skops.io.dump(fitted, tmp_path / "model.skops")
    _one_line(
        str(tmp_path / "model.skops"), "--controls-of", "x.onnx", *out, match="finished model"
    )
    served.answer = lambda x: ["seven"] * len(x)
    _one_line(url, *out, match="classes=")
    assert not (tmp_path / "audit" / "sections").exists()
    with pytest.raises(BadInput, match="holds no audit"):
        CliRunner().invoke(cli, ["audit", "--resume", str(tmp_path)], catch_exceptions=False)


@pytest.mark.slow
def test_the_regressions_pass_on_the_same_model_and_fail_on_a_worse_one(tmp_path: Path) -> None:
    """Pytest itself runs what `--to tests` wrote; a model that guesses is worse."""
    home = tmp_path / "audit"
    words = ("--data", "digits", "--depth", "quick", "--out", str(home))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Subject, "by_depth", lambda subject, quick, *rest: (
            max(6, quick // 10) if isinstance(quick, int) and quick > 20 else quick))  # fmt: skip
        ended = _audit("logistic", *words, "--json")
    assert ended.exit_code == 0, ended.output
    assert CliRunner().invoke(cli, ["report", str(home), "--to", "tests"]).exit_code == 0
    assert _pytest(home).returncode == 0
    worse = _pytest(home, TRUSTML_MODEL="mlp:hidden=[4],epochs=1,learning_rate=1e-9")
    assert worse.returncode == 1
    assert "worst" in worse.stdout or "robust" in worse.stdout


def _pytest(home: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k",
             "robustness or black_box", str(home / "test_trust.py")]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **more})
