"""Whole audits, at the depth quick as it is, of what really serves models and of files."""

import json
from pathlib import Path
from typing import Any

import pytest
import skops.io
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

from tests.targets.real_servers import mlflow, mlserver
from trustml.cli.main import cli
from trustml.contracts import Dataset
from trustml.ledger import Ledger

pytestmark = pytest.mark.slow


def _audited(model: str, home: Path, *words: str) -> dict[str, Any]:
    """Return the lines of a quick audit, by section; it ends well, and its page is there."""
    given = ["audit", model, "--data", "digits", "--depth", "quick", "--out", str(home), *words]
    ended = CliRunner().invoke(cli, [*given, "--json"])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    assert (home / "report.html").stat().st_size > 10_000
    return {line["section"]: line for line in map(json.loads, ended.stdout.splitlines())}


def _is_a_regression_that_shows_probabilities(lines: dict[str, Any]) -> None:
    """All that needs no gradient was examined, and the rest says why not.

    A linear model is solved for: the copy is the model. It is undefended, so asking fools it.
    """
    assert lines["stealing"]["grade"] in ("high", "critical")
    (copied,) = lines["stealing"]["findings"]
    assert copied["score"]["value"] > 0.99
    attacks = {finding["case"] for finding in lines["black_box"]["findings"]}
    assert len(attacks) == 2
    assert lines["black_box"]["grade"] in ("medium", "high", "critical")
    assert {f["name"] for f in lines["doubt"]["findings"]} >= {"calibration", "outsiders"}
    for name in ("robustness", "physical", "explaining"):
        assert lines[name]["grade"] == "not examined"
        assert "gradients" in lines[name]["reason"]


def test_mlserver_is_audited_whole(venvs: Path, tmp_path: Path, data: Dataset) -> None:
    (tmp_path / "server").mkdir()
    with mlserver(venvs, tmp_path / "server", data) as (url, _):
        lines = _audited(url, tmp_path / "audit", "--budget", "120000")
    _is_a_regression_that_shows_probabilities(lines)
    assert 10_000 < Ledger(tmp_path / "audit" / "queries").asked < 120_000


@pytest.mark.parametrize("answers", ["predict_proba", "predict"])
def test_mlflow_is_audited_whole(venvs: Path, tmp_path: Path, data: Dataset, answers: str) -> None:
    """Once with probabilities and once with labels, which is what MLflow serves by default."""
    (tmp_path / "server").mkdir()
    with mlflow(venvs, tmp_path / "server", data, answers) as (url, _):
        lines = _audited(url, tmp_path / "audit")
    if answers == "predict_proba":
        _is_a_regression_that_shows_probabilities(lines)
        return
    (asked,) = lines["black_box"]["findings"]
    assert "rays" in asked["case"]
    assert lines["stealing"]["findings"][0]["score"]["value"] > 0.9
    assert "labels only" in lines["doubt"]["reason"]


def test_a_file_of_scikit_learn_is_audited_whole(
    fitted: LogisticRegression, tmp_path: Path
) -> None:
    skops.io.dump(fitted, tmp_path / "model.skops")
    lines = _audited(str(tmp_path / "model.skops"), tmp_path / "audit")
    _is_a_regression_that_shows_probabilities(lines)
    ended = CliRunner().invoke(cli, ["replay", f"{tmp_path / 'audit'}#F-001"])
    assert ended.exit_code == 0, (ended.output, ended.exception)
    assert "reproduced" in ended.output
