"""Downloads: through torchvision from a server of the test's own; a network that is not there."""

import gzip
import hashlib
import threading
import time
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torchvision

from trustml.data import _download, _sources
from trustml.data._download import fetch
from trustml.data.mnist import mnist
from trustml.errors import BadInput

REALLY_REACHABLE = _download.reachable  # the room's tests replace it by one that says no


@pytest.fixture
def server(tmp_path):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    (tmp_path / "served").mkdir()
    handler = partial(Quiet, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def mirrored(tmp_path, server, write_collection, monkeypatch):
    """Let MNIST mean small files on the test's server; return their arrays."""
    arrays = write_collection(tmp_path / "made")
    files = []
    for file in sorted((tmp_path / "made/MNIST/raw").iterdir()):
        content = file.read_bytes()
        (tmp_path / "served" / file.name).write_bytes(content)
        files.append((file.name, hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [server + "/"])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", files)
    monkeypatch.setattr(_download, "reachable", lambda host: True)
    return arrays


def test_absent_files_are_downloaded_into_the_cache_and_used_again(tmp_path, monkeypatch, mirrored):
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path / "cache"))
    (tmp_path / "given").mkdir()
    dataset = mnist(folder=str(tmp_path / "given"))
    assert dataset.test.y.tolist() == mirrored["t10k"][1].tolist()
    assert list((tmp_path / "given").iterdir()) == []  # the user's folder is left alone
    assert [path.name for path in (tmp_path / "cache/data").iterdir()] == ["MNIST"]
    monkeypatch.setattr(_sources, "fetch", None)  # calling it would fail
    assert mnist(folder=None).test.y.tolist() == mirrored["t10k"][1].tolist()


def test_a_download_with_a_wrong_checksum_leaves_nothing_and_says_so(
    tmp_path, monkeypatch, mirrored
):
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path / "cache"))
    (tmp_path / "served" / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(
        BadInput, match=r"its download from .* failed: Error downloading t10k-labels"
    ):
        mnist(folder=None)
    assert list((tmp_path / "cache/data").rglob("*")) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, mirrored):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="file/data cannot be written"):
        mnist(folder=None)


def test_a_server_that_answers_anything_is_reachable(tmp_path, server):
    assert REALLY_REACHABLE(server)
    assert REALLY_REACHABLE(server + "/not/there")  # 404 is an answer


def test_a_closed_port_is_not_reachable():
    assert not REALLY_REACHABLE("http://127.0.0.1:9")


def test_a_silent_network_is_given_up_soon(monkeypatch):
    # Name look-ups may hang for minutes; the asking thread is left behind.
    monkeypatch.setattr(_download, "ANSWER_SECONDS", 0.2)
    released = threading.Event()

    def hang(*_, **__):
        released.wait()
        raise OSError

    monkeypatch.setattr(urllib.request, "urlopen", hang)
    began = time.monotonic()
    assert not REALLY_REACHABLE("http://silent.invalid")
    assert time.monotonic() - began < 5
    released.set()


def test_what_is_there_already_is_kept(tmp_path, monkeypatch):
    class Files:
        def __init__(self, root, download, part):
            (tmp_path.__class__(root) / "usps.bz2").write_text(f"new {part}")

    monkeypatch.setattr(torchvision.datasets, "Files", Files, raising=False)
    monkeypatch.setattr(_download, "reachable", lambda host: True)
    layout = [("USPS/usps.bz2", "usps.bz2")]
    assert fetch("Files", "http://x", {"part": "train"}, layout, tmp_path) == ""
    assert (tmp_path / "USPS/usps.bz2").read_text() == "new train"
    assert fetch("Files", "http://x", {"part": "test"}, layout, tmp_path) == ""
    assert (tmp_path / "USPS/usps.bz2").read_text() == "new train"
