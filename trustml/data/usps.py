"""USPS: digits from the ZIP codes of real envelopes."""

from typing import Literal

from trustml.contracts import Dataset
from trustml.data._collections import DIGITS, About, Sizes, collection, from_test_file
from trustml.registry import data

ABOUT = About(
    class_names=DIGITS,
    budgets={"linf": 0.2, "l2": 1.0, "l1": 4.0, "l0": 8.0},
    outside=("fashion_mnist", "kmnist", "notmnist", "shift_mnist"),
)
ADVICE = ", or cut all parts from the test file alone: usps:parts=test"
TEST_SHARE = 0.3


@data(source="Hull 1994, IEEE TPAMI 16(5)")
def usps(
    *,
    folder: str | None,
    parts: Literal["files", "test"] = "files",
    validation: float = 0.1,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Dataset:
    """Return 9 298 scanned ZIP-code digits (1, 16, 16), 7 291 to learn from and 2 007 to test on.

    Args:
        folder: where files are looked for first.
        parts: "files" for the official parts; "test" cuts all three from the test file alone.
        validation: share of the training file (or of the test file) that is kept for validation.
        train_size: use only so many training samples, drawn by a fixed order; none for all.
        test_size: use only so many test samples; none for all.

    Raises:
        BadInput: the files are nowhere, or not what they should be.
        BadOption: sizes that cannot be had.
    """
    sizes = Sizes(validation, train_size, test_size)
    if parts == "test":
        return from_test_file("usps", ABOUT, sizes, TEST_SHARE, folder)
    return collection("usps", ABOUT, sizes, folder, ADVICE)
