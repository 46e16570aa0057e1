"""MNIST's idx files, plain or gzipped, read where they lie."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from trustml.errors import BadInput

UNSIGNED_BYTE = 8


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Return the file's array of unsigned bytes (read-only), which must have `dimensions` axes.

    Raises:
        BadInput: it cannot be read, is no idx file of bytes, has other axes, or is cut or too long.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise BadInput(
            f"{path}: not an idx file; it starts with {content[:4].hex() or 'nothing'}, not 0000"
        )
    kind, axes = content[2], content[3]
    if kind != UNSIGNED_BYTE or axes != dimensions:
        raise BadInput(
            f"{path}: an idx file of type {kind} with {axes} axes; "
            f"wanted type {UNSIGNED_BYTE} (unsigned bytes) with {dimensions}"
        )
    start = 4 + 4 * axes
    if len(content) < start:
        raise BadInput(f"{path}: truncated inside its header ({len(content)} bytes)")
    shape = struct.unpack(f">{axes}I", content[4:start])
    promised, held = math.prod(shape), len(content) - start
    if promised != held:
        what = "truncated" if held < promised else "too long"
        raise BadInput(
            f"{path}: {what}; its header promises {promised} bytes {shape}, it holds {held}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                return file.read()
        return path.read_bytes()
    except EOFError as error:
        raise BadInput(f"{path}: truncated; the gzip stream ends too early") from error
    except (OSError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
