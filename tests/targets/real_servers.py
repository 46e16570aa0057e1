"""MLServer and MLflow's scoring server, each in an environment of its own, for tests to start.

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
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest
import torch

from trustml.contracts import Dataset

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


@contextmanager
def mlserver(venvs: Path, folder: Path, data: Dataset) -> Iterator[tuple[str, torch.Tensor]]:
    """Serve a regression on the digits by MLServer; yield its address and its own probabilities."""
    python = _python(venvs, "mlserver")
    truth = _trained(python, "mlserver", folder, data)
    port = _free_port()
    (folder / "settings.json").write_text(
        f'{{"http_port": {port}, "grpc_port": {_free_port()}, "metrics_port": {_free_port()}, '
        f'"host": "127.0.0.1", "parallel_workers": 0}}'
    )
    (folder / "model-settings.json").write_text(
        '{"name": "digits", "implementation": "mlserver_sklearn.SKLearnModel", '
        '"parameters": {"uri": "./model.joblib", "version": "v1"}}'
    )
    base = f"http://127.0.0.1:{port}/v2"
    with _running(python, ["mlserver", "start", "."], folder, f"{base}/health/ready"):
        yield f"{base}/models/digits", truth


@contextmanager
def mlflow(
    venvs: Path, folder: Path, data: Dataset, answers: str
) -> Iterator[tuple[str, torch.Tensor]]:
    """Serve the same by MLflow, which answers `predict_proba`, or `predict` as by default."""
    python = _python(venvs, "mlflow")
    truth = _trained(python, "mlflow", folder, data, answers)
    port = _free_port()
    words = [
        "mlflow", "models", "serve", "-m", "model", "-p", str(port),
        "--env-manager", "local", "-h", "127.0.0.1",
    ]  # fmt: skip
    with _running(python, words, folder, f"http://127.0.0.1:{port}/ping"):
        yield f"http://127.0.0.1:{port}/invocations", truth


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
