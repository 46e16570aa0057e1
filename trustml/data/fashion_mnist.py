"""Fashion-MNIST: pieces of clothing."""

from trustml.contracts import Dataset
from trustml.data._collections import About, Sizes, collection
from trustml.registry import data

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
ABOUT = About(
    class_names=CLASS_NAMES,
    budgets={"linf": 0.1, "l2": 1.0, "l1": 8.0, "l0": 20.0},
    outside=("mnist", "kmnist", "notmnist"),
)


@data(source="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747")
def fashion_mnist(
    *,
    folder: str | None,
    validation: float = 0.1,
    train_size: int | None = None,
    test_size: int | None = None,
    classes: tuple[int, ...] | None = None,
) -> Dataset:
    """Return 70 000 pieces of clothing (1, 28, 28), 60 000 to learn from and 10 000 to test on.

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
    return collection("fashion_mnist", ABOUT, sizes, folder)
