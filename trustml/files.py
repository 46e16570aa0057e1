"""Files that are whole or absent (written beside, synced, renamed); folders held by one process."""

import errno
import fcntl
import hashlib
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from trustml.errors import BadInput, DiskFull, TrustError


def write_whole(path: Path, content: bytes) -> None:
    """Write the file so that a reader, or a kill, finds the old content or the new, never a part.

    Raises:
        DiskFull: there is no room.
        BadInput: the place cannot be written to.
    """
    with written_whole(path) as file:
        file.write(content)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to and to read from, which takes the path's place once it is done.

    Raises:
        DiskFull: there is no room.
        BadInput: the place cannot be written to.
    """
    # No two machines that share a drive may write beside each other under one name.
    beside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise explained(error, path) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Append one whole line, first cutting off a line that a kill left unfinished.

    Raises:
        DiskFull: there is no room.
        BadInput: the place cannot be written to.
    """
    try:
        path.touch()
        with path.open("r+b") as file:
            keep = _after_last_line(file)
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

    On a network drive it is the server's lock, so that it keeps out the other machines, too.

    Raises:
        BadInput: another process holds it, who is named, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not emptied on the way: what is in it names the holder.
        file = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise explained(error, folder) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:  # a network drive without locks
                raise BadInput(f"{folder} cannot be locked: {error.strerror}") from error
            file.seek(0)
            raise BadInput(
                f"another trustml is at work in {folder} ({file.read(200).strip() or 'unnamed'}); "
                f"wait for it, or choose another --out"
            ) from error
        with suppress(OSError):  # a full disk: the lock holds without a name
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
        yield


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# What a lock says that somebody has; drives of other machines say the second.
_HELD = (errno.EAGAIN, errno.EACCES)
_STEP = 1 << 16


def _after_last_line(file: BinaryIO) -> int:
    """Return where the last whole line of a file ends, reading no more than it must."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - _STEP)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    """See that a new name in a folder outlives a loss of power, where the drive can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
