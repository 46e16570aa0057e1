"""Where a case ran: device, versions, commit, and how torch computed there."""

import os
import platform
import subprocess
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from trustml.contracts import Json, Split
from trustml.errors import BadInput, UnknownName

# What cuBLAS wants to be told before its sums have a fixed order.
_WORKSPACE, _FIXED = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
_ROOT = Path(__file__).resolve().parents[2]


def device_of(text: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UnknownName: another word.
        BadInput: the device is not on this machine, or others hold it.
    """
    if text == "auto":
        text = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = text.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdecimal()):
        raise UnknownName.of("device", text, ("auto", "cpu", "cuda", "cuda:N", "mps"))
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise BadInput(
            f"{text}: torch sees {torch.cuda.device_count()} CUDA devices; try --device auto"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise BadInput("--device mps: torch sees no Apple GPU here; use --device auto")
    if kind == "cuda":
        _check_free(text)
    return torch.device(text)


def _check_free(text: str) -> None:
    """Ask the GPU for a word, so that one that others hold is named before anything is begun.

    Raises:
        BadInput: it does not answer.
    """
    try:
        torch.cuda.mem_get_info(torch.device(text).index or 0)
    except RuntimeError as error:
        said = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise BadInput(
            f"{text}: the GPU cannot be used ({said}); wait for it, name another one with "
            f"--device cuda:N, or use --device cpu"
        ) from error


@contextmanager
def arithmetic(deterministic: bool = False) -> Iterator[None]:
    """Compute exactly (`exact_arithmetic`) inside the block, and as before after it."""
    held = [(part, name, value) for part, name in _switches() if (value := _read(part, name))]
    strict = torch.are_deterministic_algorithms_enabled()
    softly = torch.is_deterministic_algorithms_warn_only_enabled()
    flags = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    workspace = os.environ.get(_WORKSPACE)
    exact_arithmetic(deterministic)
    try:
        yield
    finally:
        for part, name, (value,) in held:
            _write(part, name, value)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags
        torch.use_deterministic_algorithms(strict, warn_only=softly)
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace


def exact_arithmetic(deterministic: bool = False) -> None:
    """Switch off what trades bits for speed, so that a verdict can be checked again.

    Products are float32, not TensorFloat-32, and cuDNN does not choose among its algorithms by
    stop watch. `deterministic` goes on to every operation of torch: one that has no algorithm of a
    fixed order raises.
    """
    for part, name in _switches():
        _write(part, name, "ieee" if name == "fp32_precision" else False)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if deterministic:
        os.environ.setdefault(_WORKSPACE, _FIXED)
        torch.use_deterministic_algorithms(True)


def sent(batch: Split, device: torch.device) -> Split:
    """Return the batch on the device; to a GPU by pinned memory, so that nobody waits for it."""
    if device.type != "cuda" or batch.x.device.type != "cpu":
        return batch.to(device)
    x, y, ids = (
        t.pin_memory().to(device, non_blocking=True) for t in (batch.x, batch.y, batch.ids)
    )
    return Split(x, y, ids, batch.classes, batch.low, batch.high)


def peak_mib(device: torch.device) -> float | None:
    """Return the most memory that torch held on the device since `forget_peak`, in MiB.

    None on a CPU, where what a process holds is mostly not of the case.
    """
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Begin to count the device's memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def place(device: torch.device) -> dict[str, Json]:
    """Return what a reader needs to judge a number's origin."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": str(device),
        "name": name,
        "threads": torch.get_num_threads(),
        "trustml": trustml_version(),
        "commit": _commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "tf32": _is_tf32(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _switches() -> list[tuple[Any, str]]:
    """Return torch's words for TensorFloat-32: the older ones, and since 2.9 the newer ones too.

    Both are to say the same: torch raises where somebody reads the older ones and they differ.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    older = [(matmul, "allow_tf32"), (cudnn, "allow_tf32")]
    if not hasattr(matmul, "fp32_precision"):
        return older
    return older + [(part, "fp32_precision") for part in (matmul, cudnn.conv, cudnn.rnn)]


def _is_tf32() -> bool:
    values = [value for part, name in _switches() for value in _read(part, name)]
    return "tf32" in values or True in values


def _read(part: Any, name: str) -> tuple[Any, ...]:
    """Return a switch's value, or nothing where older and newer words differ."""
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter("ignore")  # some versions warn of the older words
        return (getattr(part, name),)
    return ()


def _write(part: Any, name: str, value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setattr(part, name, value)


@cache
def trustml_version() -> str:
    """Return the installed version, or that of the source tree that is run, which is said."""
    with suppress(PackageNotFoundError):
        return version("trustml")
    with suppress(OSError, ValueError, KeyError):
        project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] == "trustml":
            return f"{project['version']} (source tree)"
    return "unknown version (source tree)"


@cache
def _commit() -> str:
    """Return the commit of a source checkout (with + where files differ), or "" elsewhere."""
    if not (_ROOT / ".git").exists():
        return ""
    try:
        git = ["git", "-C", str(_ROOT)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
