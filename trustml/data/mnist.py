"""MNIST: handwritten digits."""

from trustml.contracts import Dataset
from trustml.data._collections import DIGITS, About, Sizes, collection
from trustml.registry import data

ABOUT = About(
    class_names=DIGITS,
    budgets={"linf": 0.3, "l2": 2.0, "l1": 10.0, "l0": 25.0},
    outside=("fashion_mnist", "kmnist", "notmnist", "shift_usps"),
)


@data(source="LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE 86(11)")
def mnist(
    *,
    folder: str | None,
    validation: float = 0.1,
    train_size: int | None = None,
    test_size: int | None = None,
    classes: tuple[int, ...] | None = None,
) -> Dataset:
    """Return 70 000 handwritten digits (1, 28, 28), 60 000 to learn from and 10 000 to test on.

    Args:
        folder: where files are looked for first.
        validation: share of the training file that is kept for validation.
        train_size: use only so many training samples, drawn by a fixed order; none for all.
        test_size: use only so many test samples, the first of the file; none for all.
        classes: those to learn, as [0,1,2,3,4,5,6,7]; test samples of the others are the
            out-of-distribution set held_out. None for all ten.

    Raises:
        BadInput: the files are nowhere, or not what they should be.
        BadOption: sizes or classes that cannot be had.
    """
    sizes = Sizes(validation, train_size, test_size, classes)
    return collection("mnist", ABOUT, sizes, folder)
