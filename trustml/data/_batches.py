"""CIFAR's pickled batches, from folder or archive, read by an unpickler that runs no code."""

import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trustml.errors import BadInput

# All that a batch is made of. Anything else in the pickle could run a stranger's code.
HARMLESS = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
    }
)


def read_batches(path: Path, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the images (B, 3, 32, 32) uint8 and labels (B,) of the named batches, joined in order.

    Raises:
        BadInput: a batch is missing, cannot be read, or does not hold data and labels that fit.
    """
    images, labels = [], []
    for name, content in _contents(path, names):
        batch = _unpickled(content, f"{path}: {name}")
        if not isinstance(batch, dict):
            raise BadInput(f"{path}: {name} holds a {type(batch).__name__}, not a CIFAR batch")
        data, target = (batch.get(key, batch.get(key.encode())) for key in ("data", "labels"))
        if not isinstance(data, np.ndarray) or not isinstance(target, list):
            keys = ", ".join(sorted(map(str, batch)))
            raise BadInput(f"{path}: {name} has no data and labels; it has {keys or 'nothing'}")
        if data.dtype != np.uint8 or data.shape != (len(target), 3072):
            raise BadInput(
                f"{path}: {name} holds {data.dtype} data of shape {data.shape} for "
                f"{len(target)} labels; wanted uint8 of shape ({len(target)}, 3072)"
            )
        images.append(data.reshape(-1, 3, 32, 32))
        labels.append(np.asarray(target, dtype=np.int64))
    return np.concatenate(images), np.concatenate(labels)


class _Harmless(pickle.Unpickler):
    """Loads arrays, lists, numbers and text; refuses every other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the class if it is one of the harmless ones."""
        module = module.replace("numpy.core", "numpy._core")  # what numpy 1 and Python 2 wrote
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR batch needs")
        return super().find_class(module, name)


def _unpickled(content: bytes, where: str) -> Any:
    try:
        return _Harmless(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damaged pickles raise almost anything
        raise BadInput(f"{where} cannot be read as a CIFAR batch: {error}") from error


def _contents(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    try:
        if path.is_dir():
            for name in names:
                yield name, (path / name).read_bytes()
            return
        with tarfile.open(path) as archive:
            for name in names:
                member = archive.extractfile(f"cifar-10-batches-py/{name}")
                yield name, member.read() if member else b""
    except FileNotFoundError as error:
        raise BadInput(f"{path}: {Path(error.filename).name} is missing") from error
    except KeyError as error:
        raise BadInput(f"{path}: {error.args[0]}") from error
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from error
