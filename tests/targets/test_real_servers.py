"""MLServer and MLflow's scoring server, each in an environment of its own, serving a digits model.

They pin older web packages than ours, so the test makes a virtual environment for each. With
TRUSTML_SERVER_VENVS=FOLDER these are kept there, and found again by the next run.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
import torch

from tests.targets.conftest import DIGITS
from trustml.benchmarks.harness import start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Dataset

pytestmark = pytest.mark.slow

# What each server's environment holds, and what trains, saves and answers in it.
_PACKAGES = {
    "mlserver": ("mlserver>=1.7,<1.8", "mlserver-sklearn>=1.7,<1.8"),
    "mlflow": ("mlflow-skinny>=3", "scikit-learn", "skops", "pandas", "fastapi", "uvicorn"),
}
_TRAINED = """
import sys, numpy as np
from sklearn.linear_model import LogisticRegression
x, y, test = (np.load(name) for name in ("x.npy", "y.npy", "test.npy"))
model = LogisticRegression(max_iter=300, C=0.1).fit(x, y)
np.save("truth.npy", model.predict_proba(test))
"""
_SAVED = {
    "mlserver": "import joblib; joblib.dump(model, 'model.joblib')",
    "mlflow": (
        "import mlflow.sklearn; mlflow.sklearn.save_model(model, 'model', "
        "pyfunc_predict_fn=sys.argv[1])"
    ),
}


@pytest.fixture(scope="session")
def venvs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the servers' environments."""
    kept = os.environ.get("TRUSTML_SERVER_VENVS")
    return Path(kept) if kept else tmp_path_factory.mktemp("venvs")


def _python(venvs: Path, name: str) -> Path:
    """Return the Python of a server's environment, made if need be; skip where it cannot be."""
    home = venvs / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        made = subprocess.run(
            [python, "-m", "pip", "install", "-q", *_PACKAGES[name]],
            capture_output=True, text=True, check=False, env=_alone(python), timeout=1500,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"{name} cannot be installed here: {made.stderr.strip().splitlines()[-1]}")
        (home / "ready").touch()
    return python


def _alone(python: Path) -> dict[str, str]:
    """Return an environment in which theirs finds its own programs, and imports nothing of ours."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return own | {"PATH": f"{python.parent}{os.pathsep}{own.get('PATH', '')}"}


def _trained(python: Path, name: str, folder: Path, data: Dataset, *words: str) -> torch.Tensor:
    """Train and save the model in the server's environment; return its own probabilities."""
    for file, x in (("x", data.train.x), ("test", data.test.x[:100])):
        np.save(folder / f"{file}.npy", x.flatten(1).numpy())
    np.save(folder / "y.npy", data.train.y.numpy())
    code = _TRAINED + _SAVED[name]
    subprocess.run(
        [python, "-c", code, *words], cwd=folder, check=True, env=_alone(python), timeout=300
    )
    return torch.from_numpy(np.load(folder / "truth.npy")).float()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def _running(python: Path, words: list[str], folder: Path, ready: str) -> Iterator[None]:
    """Run a server inside the block, from when it is ready on."""
    with (folder / "log").open("w") as log:
        command = [python.with_name(words[0]), *words[1:]]
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=_alone(python))
    try:
        for _ in range(240):
            with suppress(URLError, OSError), urlopen(ready, timeout=2) as answer:
                if answer.status == 200:
                    break
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        else:
            pytest.fail(f"not ready: {(folder / 'log').read_text()[-2000:]}")
        yield
    finally:
        server.terminate()
        server.wait(30)


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
    python = _python(venvs, "mlserver")
    truth = _trained(python, "mlserver", tmp_path, data)
    port = _free_port()
    (tmp_path / "settings.json").write_text(
        f'{{"http_port": {port}, "grpc_port": {_free_port()}, "metrics_port": {_free_port()}, '
        f'"host": "127.0.0.1", "parallel_workers": 0}}'
    )
    (tmp_path / "model-settings.json").write_text(
        '{"name": "digits", "implementation": "mlserver_sklearn.SKLearnModel", '
        '"parameters": {"uri": "./model.joblib", "version": "v1"}}'
    )
    base = f"http://127.0.0.1:{port}/v2"
    with _running(python, ["mlserver", "start", "."], tmp_path, f"{base}/health/ready"):
        _examined(f"{base}/models/digits", truth, data, open_target, tmp_path)


def test_mlflow_serves_a_digits_model(
    venvs: Path, tmp_path: Path, data: Dataset, open_target: Any
) -> None:
    """/invocations; once with probabilities and once with labels, as MLflow serves by default."""
    python = _python(venvs, "mlflow")
    for answers in ("predict_proba", "predict"):
        folder = tmp_path / answers
        folder.mkdir()
        truth = _trained(python, "mlflow", folder, data, answers)
        port = _free_port()
        url = f"http://127.0.0.1:{port}/invocations"
        words = [
            "mlflow", "models", "serve", "-m", "model", "-p", str(port),
            "--env-manager", "local", "-h", "127.0.0.1",
        ]  # fmt: skip
        with _running(python, words, folder, f"http://127.0.0.1:{port}/ping"):
            if answers == "predict_proba":
                _examined(url, truth, data, open_target, folder)
            else:
                target = open_target(url, DIGITS)
                assert target.access == Access.LABELS
                assert torch.equal(target(data.test.x[:100]).argmax(1), truth.argmax(1))
