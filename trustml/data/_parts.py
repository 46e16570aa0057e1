"""Rows cut into train, validation and test in an order that never changes; arrays made splits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from trustml.contracts import Split
from trustml.errors import BadInput, BadOption

# A sample's id is its place in its file, plus the file's offset.
TEST_IDS = 1_000_000_000
VALIDATION_IDS = 2_000_000_000
OFFSETS = {"train": 0, "test": TEST_IDS, "validation": VALIDATION_IDS}
Pieces = list[tuple[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Shares:
    """What is cut from the training rows where no file has such rows.

    Args:
        validation: share of them for validation.
        test: share of them for the test.
        tail: so many of the last ones for the test, instead of a share.
    """

    validation: float
    test: float
    tail: int = 0


def fixed_order(count: int) -> np.ndarray:
    """Return 0 … count-1 shuffled, always the same way on any machine and library version."""
    return np.argsort(scrambled(count), kind="stable")


def scrambled(count: int) -> np.ndarray:
    """Return SplitMix64 of 0 … count-1: (count,) uint64, as good as random, always the same."""
    with np.errstate(over="ignore"):
        word = (np.arange(count, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))


def cut(count: int, owner: str, **shares: float) -> list[np.ndarray]:
    """Return the rows of each named share of 0 … count-1, then the rest, in the fixed order.

    Raises:
        BadOption: a share that is not between 0 and 1, or that leaves a part without a row.
    """
    for name, share in shares.items():
        if not 0 < share < 1:
            raise BadOption(f"{owner}:{name}={share:g} is a share; it must be above 0 and below 1")
    sizes = [round(share * count) for share in shares.values()]
    if min(sizes, default=1) < 1 or sum(sizes) >= count:
        asked = " and ".join(f"{name}={share:g}" for name, share in shares.items())
        raise BadOption(
            f"{owner}: {asked} of {count} samples leave a part without any; change them"
        )
    return np.split(fixed_order(count), np.cumsum(sizes))


def head(rows: np.ndarray, size: int | None, owner: str, name: str) -> np.ndarray:
    """Return the first `size` rows, or all for None.

    Raises:
        BadOption: there are not as many, or `size` is below 1.
    """
    if size is None:
        return rows
    if not 1 <= size <= len(rows):
        raise BadOption(f"{owner}:{name}={size} is not between 1 and {len(rows)}, what there is")
    return rows[:size]


def joined(
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    owner: str,
    shares: Shares,
    classes: int,
    box: tuple[float, float] = (0.0, 1.0),
    *,
    keep_order: bool = False,
) -> tuple[Split, Split, Split]:
    """Return train, validation and test; parts that have no rows of their own are cut from "train".

    Args:
        parts: "train" and perhaps "validation" and "test": inputs and labels.
        owner: what messages call the dataset.
        shares: how much is cut.
        classes: number of classes.
        box: least and greatest input.
        keep_order: leave validation and test rows in the order of their files, which may be sorted
            by class; otherwise the first few of any part are a fair sample.

    Raises:
        BadOption: shares or a tail that cannot be had.
        BadInput: parts of different shape, or as many labels as there are not inputs.
    """
    for part, (x, y) in parts.items():
        if len(x) != len(y):
            raise BadInput(f"{owner}: {len(x)} {part} inputs but {len(y)} labels")
        if x.shape[1:] != parts["train"][0].shape[1:]:
            raise BadInput(
                f"{owner}: one {part} input has shape {x.shape[1:]}, "
                f"one train input {parts['train'][0].shape[1:]}"
            )
    rows = _rows({part: len(y) for part, (_, y) in parts.items()}, owner, shares, keep_order)
    splits = []
    for pieces in rows:
        x, y = (
            np.concatenate([parts[part][which][index] for part, index in pieces])
            for which in (0, 1)
        )
        ids = np.concatenate([index + OFFSETS[part] for part, index in pieces])
        splits.append(split_of(x, y, ids, classes, *box))
    return splits[0], splits[1], splits[2]


def training_rows(counts: Mapping[str, int], owner: str, shares: Shares) -> np.ndarray:
    """Return the rows of the "train" part of the files that `joined` trains on.

    Raises:
        BadOption: shares or a tail that cannot be had.
    """
    return _rows(counts, owner, shares, keep_order=True)[0][0][1]


def class_order(names: set[str]) -> list[str]:
    """Return class names in order: as numbers where all are whole numbers, else by letter."""
    if all(name.removeprefix("-").isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def split_of(
    images: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    classes: int,
    low: float = 0.0,
    high: float = 1.0,
) -> Split:
    """Return the split, not yet checked; uint8 images (B, *S) become float32 in [0, 1]."""
    pixels = images.dtype == np.uint8
    with np.errstate(over="ignore"):  # what does not fit in float32 turns infinite and is refused
        values = np.require(images, np.float32, ["C", "W"])
    x = torch.from_numpy(values)
    if pixels:
        x /= 255
    y = torch.from_numpy(labels.astype(np.int64))
    identifiers = torch.from_numpy(ids.astype(np.int64))
    return Split(x, y, identifiers, classes, low, high)


def _rows(
    counts: Mapping[str, int], owner: str, shares: Shares, keep_order: bool
) -> tuple[Pieces, Pieces, Pieces]:
    """Return the rows of train, validation and test, as (part of the files, its rows) pieces."""
    if not 0 <= shares.tail < counts["train"]:
        raise BadOption(
            f"{owner}: a tail of {shares.tail} rows for the test, of {counts['train']} for training"
        )
    kept = counts["train"] - shares.tail
    order = np.arange if keep_order else fixed_order
    pieces: dict[str, Pieces] = {
        part: [(part, order(count))] for part, count in counts.items() if part != "train"
    }
    if shares.tail:
        pieces.setdefault("test", []).append(("train", np.arange(kept, counts["train"])))
    absent = [part for part in ("test", "validation") if part not in pieces]
    *cuts, rest = cut(kept, owner, **{part: getattr(shares, part) for part in absent})
    pieces |= {part: [("train", rows)] for part, rows in zip(absent, cuts, strict=True)}
    return [("train", rest)], pieces["validation"], pieces["test"]
