"""Files that are whole or absent (written beside, synced, renamed); folders held by one process."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trustml.errors import BadInput, DiskFull, TrustError


def write_whole(path: Path, content: bytes) -> None:
    """Write the file so that a reader, or a kill, finds the old content or the new, never a part.

    Raises:
        DiskFull: there is no room.
        BadInput: the place cannot be written to.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise explained(error, path) from error


def append_line(path: Path, line: str) -> None:
    """Append one whole line, first cutting off a line that a kill left unfinished.

    Raises:
        DiskFull: there is no room.
        BadInput: the place cannot be written to.
    """
    try:
        before = path.read_bytes() if path.exists() else b""
        keep = before.rfind(b"\n") + 1
        with path.open("r+b" if before else "wb") as file:
            file.truncate(keep)
            file.seek(keep)
            try:
                file.write(line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(keep)
                raise
    except OSError as error:
        raise explained(error, path) from error


def explained(error: OSError, path: Path) -> TrustError:
    """Return the error as one line that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"the disk is full: {path} could not be written; free some space and try again"
        )
    return BadInput(f"{path} cannot be written: {error.strerror or error}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the lock goes with the process, however it ends.

    Raises:
        BadInput: another process holds it, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise explained(error, folder) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                f"another trustml is at work in {folder}; wait for it, or choose another --out"
            ) from error
        except OSError as error:  # a network drive without locks
            raise BadInput(f"{folder} cannot be locked: {error.strerror}") from error
        yield


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
