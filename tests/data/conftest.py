"""Every data test runs without network, with a cache of its own, and sees no real files.

Tests of the real files ask for the fixture `real_files`.
"""

import gzip
import os
import struct

import numpy as np
import pytest

from trustml.data import _download

REAL = os.environ.get("TRUSTML_DATA")


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path_factory):
    monkeypatch.delenv("TRUSTML_DATA", raising=False)
    monkeypatch.setenv("TRUSTML_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(_download, "reachable", lambda host: False)


@pytest.fixture
def real_files():
    """Give a function that returns the folder of real files, or skips where one is absent."""

    def folder(*names):
        if not REAL:
            pytest.skip("TRUSTML_DATA is not set")
        for name in names:
            if not os.path.exists(os.path.join(REAL, name)):
                pytest.skip(f"TRUSTML_DATA has no {name}")
        return REAL

    return folder


@pytest.fixture
def write_idx():
    """Give a function that writes an array of bytes as an idx file."""

    def write(path, array):
        array = np.asarray(array, dtype=np.uint8)
        content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        content += array.tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)

    return write


@pytest.fixture
def write_collection(write_idx):
    """Give a function that writes small files in MNIST's layout and returns their arrays."""

    def write(root, base="MNIST", train=40, test=20, seed=0, suffix=".gz"):
        generator = np.random.default_rng(seed)
        arrays = {}
        for start, count in (("train", train), ("t10k", test)):
            images = generator.integers(0, 256, (count, 28, 28))
            labels = generator.integers(0, 10, count)
            write_idx(root / base / "raw" / f"{start}-images-idx3-ubyte{suffix}", images)
            write_idx(root / base / "raw" / f"{start}-labels-idx1-ubyte{suffix}", labels)
            arrays[start] = (images, labels)
        return arrays

    return write
