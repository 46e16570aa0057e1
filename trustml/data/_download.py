"""Downloads by torchvision into trustml's cache; without a network it says so within seconds."""

import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from trustml.files import explained

ANSWER_SECONDS = 5.0  # for the server to say that it is there
STALL_SECONDS = 30.0  # between two pieces of a file


def fetch(
    name: str,
    host: str,
    options: Mapping[str, Any],
    layout: Sequence[tuple[str, ...]],
    target: Path,
) -> str:
    """Download `name` of torchvision.datasets into `target`; return "" or why it cannot be had.

    A file arrives whole or not at all: it is checked in a folder of its own, then moved.

    Args:
        options: what the class is called with, beside its root and download.
        layout: for each file, the relative paths where it may come to lie.

    Raises:
        DiskFull: the cache has no room.
        BadInput: the cache cannot be written to.
    """
    if not reachable(host):
        return f"it cannot be downloaded, {host} does not answer"
    try:
        from torchvision import datasets
    except ImportError:
        return "it cannot be downloaded without the package torchvision"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=target) as root:
            with _impatient(STALL_SECONDS):
                getattr(datasets, name)(root, download=True, **options)
            _move(Path(root), layout, target)
    except (RuntimeError, urllib.error.URLError, TimeoutError, ConnectionError) as error:
        return f"its download from {host} failed: {' '.join(str(error).split())}"
    except OSError as error:
        raise explained(error, target) from error
    return ""


@cache
def reachable(host: str) -> bool:
    """Return whether the server answers at all within a few seconds; asked once a process."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(host, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=ANSWER_SECONDS).close()
            answered.set()
        except urllib.error.HTTPError:  # "forbidden" is an answer too
            answered.set()
        except (OSError, ValueError):
            pass

    # A thread, for looking up a name may hang beyond any timeout that can be set for it.
    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(ANSWER_SECONDS)
    return answered.is_set()


@contextmanager
def _impatient(seconds: float) -> Iterator[None]:
    """Let no socket opened inside the block wait longer for its next piece."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _move(root: Path, layout: Sequence[tuple[str, ...]], target: Path) -> None:
    """Move what arrived under `root` to the first of its places in `target`."""
    for ways in layout:
        arrived = next((root / way for way in ways if (root / way).exists()), None)
        if arrived is None:
            continue
        place = target / next(way for way in ways if Path(way).name == arrived.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():  # another process may have been first
            arrived.replace(place)
