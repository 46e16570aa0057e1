"""The digits that come with scikit-learn: small enough for every try, no file needed."""

import gzip
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from trustml.contracts import Dataset, Norm
from trustml.data._classes import chosen
from trustml.data._outside import partners_of
from trustml.data._parts import cut, split_of
from trustml.registry import data
from trustml.splits import check_dataset

SIDE = 8
BRIGHTEST = 16  # a pixel counts the dark dots of a 4×4 block
BUDGETS: Mapping[Norm, float] = {"linf": 0.1, "l2": 0.5, "l1": 1.5, "l0": 3.0}
PARTNERS = ("fashion_mnist", "kmnist", "notmnist", "shift_mnist", "shift_usps")


@data(source="Alpaydin, Kaynak 1998, UCI optical recognition of handwritten digits")
def digits(
    *,
    folder: str | None,
    validation: float = 0.1,
    test: float = 0.3,
    classes: tuple[int, ...] | None = None,
) -> Dataset:
    """Return 1 797 handwritten digits (1, 8, 8), which come with scikit-learn.

    Args:
        folder: where the out-of-distribution partners' files are looked for first.
        validation: share that is kept for validation.
        test: share that is kept for the test.
        classes: those to learn, as [0,1,2,3,4,5,6,7]; test samples of the others are the
            out-of-distribution set held_out. None for all ten.

    Raises:
        BadOption: shares or classes that cannot be had.
    """
    table = _table()
    images = (table[:, :-1] / BRIGHTEST).reshape(-1, 1, SIDE, SIDE)
    labels = table[:, -1].astype(np.int64)
    rows = cut(len(table), "digits", test=test, validation=validation)
    tested, held, train = (split_of(images[part], labels[part], part, 10) for part in rows)
    mine = chosen((train, held, tested), tuple(map(str, range(10))), classes, "digits")
    outside = partners_of(mine.parts[2], PARTNERS, folder, mine.held_out)
    return check_dataset(Dataset("digits", *mine.parts, mine.names, BUDGETS, outside))


def _table() -> np.ndarray:
    """Return (1797, 65): 64 pixels 0–16, then the class."""
    # Importing scikit-learn takes seconds; its file alone, milliseconds.
    package = find_spec("sklearn")
    for place in (package and package.submodule_search_locations) or ():
        file = Path(place, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            with gzip.open(file, "rt", encoding="ascii") as lines:
                return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
