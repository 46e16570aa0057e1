"""notMNIST: letters from many typefaces."""

from trustml.contracts import Dataset
from trustml.data._collections import About, Sizes, from_test_file
from trustml.registry import data

ABOUT = About(
    class_names=tuple("ABCDEFGHIJ"),
    budgets={"linf": 0.3, "l2": 2.0, "l1": 10.0, "l0": 25.0},
    outside=("mnist", "fashion_mnist", "kmnist"),
)


@data(source="Bulatov 2011, notMNIST dataset")
def notmnist(
    *,
    folder: str | None,
    validation: float = 0.1,
    test: float = 0.2,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Dataset:
    """Return letters A to J (1, 28, 28) in many typefaces, all cut from the file of 10 000.

    Args:
        folder: where files are looked for first.
        validation: share that is kept for validation.
        test: share that is kept for the test.
        train_size: use only so many training samples; none for all.
        test_size: use only so many test samples; none for all.

    Raises:
        BadInput: the files are nowhere, or not what they should be.
        BadOption: sizes that cannot be had.
    """
    sizes = Sizes(validation, train_size, test_size)
    return from_test_file("notmnist", ABOUT, sizes, test, folder)
