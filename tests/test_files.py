"""Files that are whole or absent, whatever happens while they are written; locks of folders."""

import errno
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trustml import files
from trustml.errors import BadInput, DiskFull
from trustml.files import append_line, explained, file_hash, locked, write_whole


def _killed(code: str) -> None:
    """Run the code in a process of its own, which must end by SIGKILL."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL


def _full(*given: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_before_the_rename_leaves_the_old_content(tmp_path: Path, moment: str) -> None:
    """The process dies by its own SIGKILL where it would sync, or rename."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    _killed(f"""
        import os, pathlib, signal
        from trustml.files import write_whole
        {moment} = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
        write_whole(pathlib.Path({str(path)!r}), b"new")
    """)
    assert path.read_bytes() == b"old"
    write_whole(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_a_file_is_written_and_its_folders_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.bin"
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"
    assert [file.name for file in path.parent.iterdir()] == ["c.bin"], "nothing is left beside it"


def test_a_full_disk_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(DiskFull, match=r"disk is full: .*a\.bin.*free some space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_lines_are_appended_and_a_cut_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "one")
    append_line(path, "two ö")
    assert path.read_bytes() == "one\ntwo ö\n".encode()
    path.write_bytes(b"one\ntw")
    append_line(path, "three")
    assert path.read_bytes() == b"one\nthree\n"
    path.write_bytes(b"one\na long line that was cut")
    append_line(path, "two")
    assert path.read_bytes() == b"one\ntwo\n", "nothing of a longer line stays behind"
    path.write_bytes(b"on")
    append_line(path, "four")
    assert path.read_bytes() == b"four\n"


def test_a_line_for_which_there_is_no_room_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a part of it, and what was there is."""
    path = tmp_path / "lines"
    append_line(path, "one")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full)
        with pytest.raises(DiskFull):
            append_line(path, "two")
    assert path.read_bytes() == b"one\n"
    append_line(path, "three")
    assert path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize(
    "write", [lambda path: write_whole(path, b""), lambda p: append_line(p, "")]
)
def test_a_place_that_cannot_be_written_to_is_named(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """A folder where the file should be, or a file where the folder should be."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be written"):
        write(tmp_path / "file" / "inside")
    with pytest.raises(BadInput, match="cannot be written"):
        write(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_and_no_quota_are_both_a_full_disk(code: int) -> None:
    assert isinstance(explained(OSError(code, "no"), Path("a")), DiskFull)
    assert isinstance(explained(OSError(errno.EROFS, "no"), Path("a")), BadInput)


def test_the_lock_keeps_a_second_process_out(tmp_path: Path) -> None:
    code = f"""
        import pathlib
        from trustml.files import locked
        with locked(pathlib.Path({str(tmp_path)!r})): pass
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with locked(tmp_path):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode != 0
        assert f"BadInput: another trustml is at work in {tmp_path}" in done.stderr
    assert subprocess.run(command, check=False).returncode == 0, "the lock went with its holder"


def test_who_holds_a_folder_is_named(tmp_path: Path) -> None:
    """And still is after one who was turned away: opening the lock must not empty it."""
    named = f"process {os.getpid()} on {socket.gethostname()}"
    with locked(tmp_path):
        for _ in range(2):
            with pytest.raises(BadInput, match=re.escape(named)), locked(tmp_path):
                pass
    with locked(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{named}\n", "the last holder's alone"


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES])
def test_both_answers_of_a_held_lock_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """POSIX lets a record lock, which NFS makes of flock, say either of them."""

    def held(*given: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files.fcntl, "flock", held)
    with pytest.raises(BadInput, match="another trustml is at work"), locked(tmp_path):
        pass


def test_two_writers_of_one_file_do_not_share_a_scratch_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of one number on two machines: each must rename what it wrote itself."""
    path, names = tmp_path / "a.bin", []
    replaced = Path.replace

    def seen(beside: Path, target: Path) -> Path:
        names.append(beside.name)
        return replaced(beside, target)

    monkeypatch.setattr(Path, "replace", seen)
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert len(set(names)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_lines_longer_than_a_read_are_kept(tmp_path: Path) -> None:
    """The end of the last line is looked for backwards, a piece at a time."""
    path, long = tmp_path / "lines", "x" * (3 * files._STEP)
    append_line(path, long)
    append_line(path, long)
    path.write_bytes(path.read_bytes() + long.encode())
    append_line(path, "end")
    assert path.read_bytes() == f"{long}\n{long}\nend\n".encode()


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    _killed(f"""
        import os, pathlib, signal
        from trustml.files import locked
        with locked(pathlib.Path({str(tmp_path)!r})): os.kill(os.getpid(), signal.SIGKILL)
    """)
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadInput, match="cannot be written"), locked(tmp_path / "file"):
        pass

    def no_locks(*given: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    with pytest.raises(BadInput, match="cannot be locked"), locked(tmp_path):
        pass


def test_the_hash_is_sha_256(tmp_path: Path) -> None:
    """Known from FIPS 180-2: the digest of "abc"."""
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_hash(tmp_path / "a") == known == hashlib.sha256(b"abc").hexdigest()
