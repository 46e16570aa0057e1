"""Where a case ran: device, versions, commit."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from trustml.contracts import Json
from trustml.errors import BadInput, UnknownName


def device_of(text: str) -> torch.device:
    """Return the device of `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        UnknownName: another word.
        BadInput: the device is not on this machine.
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
    return torch.device(text)


def exact_arithmetic() -> None:
    """Switch off what trades bits for speed, so that a verdict can be checked again."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


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
        "tf32": False,
    }


@cache
def trustml_version() -> str:
    """Return the installed version, or "not installed" for a bare source tree."""
    try:
        return version("trustml")
    except PackageNotFoundError:
        return "not installed"


@cache
def _commit() -> str:
    """Return the commit of a source checkout (with + where files differ), or "" elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True
        )
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except OSError:
        return ""
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
