"""npz files → named parts, each an array of inputs and one of labels."""

import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trustml.errors import BadInput

Arrays = tuple[np.ndarray, np.ndarray]
INPUTS, LABELS = ("x", "images"), ("y", "labels")
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test",),
}
WANTED = "x and y, or x_train, y_train, x_test, y_test (x_validation and y_validation likewise)"


def read_npz(place: Path) -> dict[str, Arrays]:
    """Return "train" and, where there are such, "validation" and "test": inputs and labels (B,).

    A folder holds train.npz and may hold validation.npz and one file whose name starts with test.

    Raises:
        BadInput: a file that is missing or damaged, has not the keys, or has arrays that are no
            inputs and labels.
    """
    if not place.is_dir():
        parts = _read_file(place)
        if "train" not in parts:
            raise BadInput(f"{place}: it holds {' and '.join(parts)} arrays but no train ones")
        return parts
    parts = {}
    for part, words in WORDS.items():
        file = _file_of(place, part, words)
        if file:
            parts[part] = _only(_read_file(file), part, file)
    return parts


def _file_of(place: Path, part: str, words: tuple[str, ...]) -> Path | None:
    stems = "|".join(words) if part != "test" else "test.*"
    files = sorted(f for f in place.glob("*.npz") if re.fullmatch(stems, f.stem))
    exact = [file for file in files if file.stem == part]
    files = exact or files
    if len(files) > 1:
        raise BadInput(f"{place}: which is the {part} file, {' or '.join(f.name for f in files)}?")
    if not files and part == "train":
        held = ", ".join(sorted(file.name for file in place.iterdir())[:10])
        raise BadInput(f"{place}: no train.npz in it; it holds {held or 'nothing'}")
    return files[0] if files else None


def _only(parts: Mapping[str, Arrays], part: str, file: Path) -> Arrays:
    if len(parts) == 1:
        return next(iter(parts.values()))
    if part in parts:
        return parts[part]
    raise BadInput(f"{file}: it holds {' and '.join(parts)} arrays but no {part} ones")


def _read_file(file: Path) -> dict[str, Arrays]:
    try:
        with file.open("rb") as opened:  # np.load itself leaves a damaged file open
            archive = np.load(opened, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise BadInput(
                    f"{file}: one bare array; save inputs and labels: np.savez(x=…, y=…)"
                )
            keys = _keys(archive.files, file)
            return {
                part: (_inputs(archive[x], f"{file}: {x}"), _labels(archive[y], f"{file}: {y}"))
                for part, (x, y) in keys.items()
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"{file}: cannot be read as npz, damaged or no such file: {reason}"
        ) from error


def _keys(held: list[str], file: Path) -> dict[str, tuple[str, str]]:
    """Return part → names of its inputs and its labels."""
    found = {}
    for part, words in WORDS.items():
        x = _key(held, INPUTS, words, bare=part == "train")
        y = _key(held, LABELS, words, bare=part == "train")
        if x and y:
            found[part] = (x, y)
        elif x or y:
            raise BadInput(f"{file}: it has {x or y} without its {'labels' if x else 'inputs'}")
    if not found:
        raise BadInput(f"{file}: wanted {WANTED}; it has {', '.join(held) or 'nothing'}")
    return found


def _key(held: list[str], kinds: tuple[str, ...], words: tuple[str, ...], bare: bool) -> str:
    names = {f"{kind}_{word}" for kind in kinds for word in words}
    names |= {f"{word}_{kind}" for kind in kinds for word in words}
    if bare:
        names |= set(kinds)
    return next((key for key in held if key.lower() in names), "")


def _inputs(x: np.ndarray, where: str) -> np.ndarray:
    if x.dtype.kind not in "uifb":
        raise BadInput(f"{where} holds {x.dtype}; inputs must be uint8 or floats")
    return x if x.dtype == np.uint8 else x.astype(np.float32, copy=False)


def _labels(y: np.ndarray, where: str) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise BadInput(f"{where} has shape {y.shape}; labels are (B,) class numbers: y.argmax(1)")
    if y.dtype.kind not in "ui":
        raise BadInput(f"{where} holds {y.dtype}; labels are whole numbers from 0")
    return y.astype(np.int64)
