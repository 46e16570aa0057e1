"""MLServer and MLflow's scoring server: what is opened is what they serve, and runs hold."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.targets.conftest import DIGITS
from tests.targets.real_servers import mlflow, mlserver
from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Dataset

pytestmark = pytest.mark.slow


def _examined(url: str, truth: torch.Tensor, data: Dataset, open_target: Any, folder: Path) -> None:
    """See that the target is the served model, and that a run on it holds when checked again."""
    target = open_target(url, DIGITS)
    torch.testing.assert_close(target(data.test.x[:100]), truth, rtol=0, atol=1e-5)
    assert target.access == Access.PROBABILITIES
    plan = Plan(
        models=(url,), attacks=("square:queries=20",), stealers=("linear_exact",), epsilons=(0.3,),
        limit=8, device="cpu",
    )  # fmt: skip
    found = {record.plugin: record for record in start(plan, folder / "run")}
    assert found["square"].status == "done", found["square"].reason
    assert found["linear_exact"].scores["agreement (test)"].value > 0.99
    assert len(list(verify(folder / "run"))) == len(found)


def test_mlserver_serves_a_digits_model(
    venvs: Path, tmp_path: Path, data: Dataset, open_target: Any
) -> None:
    """Open Inference Protocol; the same estimator's predict_proba, in its own process, is true."""
    with mlserver(venvs, tmp_path, data) as (url, truth):
        _examined(url, truth, data, open_target, tmp_path)


def test_mlflow_serves_a_digits_model(
    venvs: Path, tmp_path: Path, data: Dataset, open_target: Any
) -> None:
    """/invocations; once with probabilities and once with labels, as MLflow serves by default."""
    for answers in ("predict_proba", "predict"):
        folder = tmp_path / answers
        folder.mkdir()
        with mlflow(venvs, folder, data, answers) as (url, truth):
            if answers == "predict_proba":
                _examined(url, truth, data, open_target, folder)
            else:
                target = open_target(url, DIGITS)
                assert target.access == Access.LABELS
                assert torch.equal(target(data.test.x[:100]).argmax(1), truth.argmax(1))
