"""USPS digits as libsvm text: a label 1–10, then `pixel:value` pairs with values in [-1, 1]."""

import bz2
from pathlib import Path

import numpy as np

from trustml.errors import BadInput


def read_libsvm(path: Path, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values (B, pixels) float64 in [0, 1] and the labels (B,) from 0.

    Raises:
        BadInput: it cannot be read, is cut, or a line is not a label and all pixels in order.
    """
    lines = _content(path).splitlines()
    for number, line in enumerate(lines, 1):
        if line.count(b":") != pixels:
            raise BadInput(
                f"{path}: line {number} has {line.count(b':')} pixel:value pairs, wanted {pixels}"
            )
    try:
        table = np.array(b" ".join(lines).replace(b":", b" ").split(), dtype=np.float64)
        table = table.reshape(len(lines), 1 + 2 * pixels)
    except ValueError as error:
        raise BadInput(f"{path}: not libsvm text: {error}") from error
    labels, places, values = table[:, 0], table[:, 1::2], table[:, 2::2]
    if not len(table) or (places != np.arange(1, pixels + 1)).any():
        raise BadInput(f"{path}: pixels are not numbered 1 to {pixels} on every line")
    return (values + 1) / 2, labels.astype(np.int64) - 1


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".bz2":
            with bz2.open(path, "rb") as file:
                return file.read()
        return path.read_bytes()
    except EOFError as error:
        raise BadInput(f"{path}: truncated; the bzip2 stream ends too early") from error
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
