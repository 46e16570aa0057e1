"""SVHN: house numbers."""

from trustml.contracts import Dataset
from trustml.data._collections import DIGITS, About, Sizes, collection
from trustml.registry import data

ABOUT = About(
    class_names=DIGITS,
    budgets={"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 24.0},
    outside=("cifar10", "fashion_mnist"),
)


@data(
    source="Netzer et al. 2011, Reading digits in natural images with unsupervised feature learning"
)
def svhn(
    *,
    folder: str | None,
    validation: float = 0.1,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Dataset:
    """Return 99 289 house-number digits (3, 32, 32), 73 257 to learn from and 26 032 to test on.

    Args:
        folder: where files are looked for first.
        validation: share of the training file that is kept for validation.
        train_size: use only so many training samples, drawn by a fixed order; none for all.
        test_size: use only so many test samples, the first of the file; none for all.

    Raises:
        BadInput: the files are nowhere, or not what they should be.
        BadOption: sizes that cannot be had.
    """
    return collection("svhn", ABOUT, Sizes(validation, train_size, test_size), folder)
