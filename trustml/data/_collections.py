"""Datasets made of a well-known collection's training and test files."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trustml.contracts import Dataset, Norm, Split
from trustml.data._classes import Parts, chosen
from trustml.data._outside import partners_of
from trustml.data._parts import TEST_IDS, cut, head, split_of
from trustml.data._sources import CLASSES, Raw, read_part
from trustml.splits import check_dataset

DIGITS = tuple("0123456789")


@dataclass(frozen=True, slots=True)
class Sizes:
    """What of a collection is used: validation share of the training file, limits, and classes."""

    validation: float
    train_size: int | None
    test_size: int | None
    classes: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class About:
    """What the files do not say: class names, usual budgets, partners outside the distribution."""

    class_names: tuple[str, ...]
    budgets: Mapping[Norm, float]
    outside: tuple[str, ...]


def collection(
    name: str, about: About, sizes: Sizes, folder: str | None, advice: str = ""
) -> Dataset:
    """Return the dataset: validation is cut from the training file; test rows keep their order.

    Raises:
        BadInput: files that are nowhere, or not what they should be.
        BadOption: sizes that cannot be had.
    """
    raw = read_part(name, "train", folder, advice)
    validation, rest = cut(len(raw.labels), name, validation=sizes.validation)
    train = _split(raw, head(rest, sizes.train_size, name, "train_size"))
    held = _split(raw, validation)
    del raw  # frees a copy of the training images before the test images are read
    tests = read_part(name, "test", folder, advice)
    rows = head(np.arange(len(tests.labels)), sizes.test_size, name, "test_size")
    test = _split(tests, rows, TEST_IDS)
    return _dataset(name, about, (train, held, test), folder, sizes.classes)


def from_test_file(
    name: str, about: About, sizes: Sizes, test: float, folder: str | None
) -> Dataset:
    """Return the dataset whose three parts are all cut from the collection's test file.

    Raises:
        BadInput: files that are nowhere, or not what they should be.
        BadOption: sizes that cannot be had.
    """
    raw = read_part(name, "test", folder)
    tested, held, rest = cut(len(raw.labels), name, test=test, validation=sizes.validation)
    rest = head(rest, sizes.train_size, name, "train_size")
    tested = head(tested, sizes.test_size, name, "test_size")
    train, middle, last = (_split(raw, rows, TEST_IDS) for rows in (rest, held, tested))
    return _dataset(name, about, (train, middle, last), folder, sizes.classes)


def _split(raw: Raw, rows: np.ndarray, offset: int = 0) -> Split:
    return split_of(raw.images[rows], raw.labels[rows], rows + offset, CLASSES)


def _dataset(
    name: str, about: About, parts: Parts, folder: str | None, classes: tuple[int, ...] | None
) -> Dataset:
    mine = chosen(parts, about.class_names, classes, name)
    outside = partners_of(mine.parts[2], about.outside, folder, mine.held_out)
    return check_dataset(Dataset(name, *mine.parts, mine.names, about.budgets, outside))
