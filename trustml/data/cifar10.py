"""CIFAR-10: small colour photographs."""

from trustml.contracts import Dataset
from trustml.data._collections import About, Sizes, collection
from trustml.registry import data

CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
ABOUT = About(
    class_names=CLASS_NAMES,
    budgets={"linf": 8 / 255, "l2": 0.5, "l1": 12.0, "l0": 24.0},
    outside=("svhn", "mnist"),
)
ADVICE = ", or give the images as npz: npz:path=…"


@data(source="Krizhevsky 2009, Learning multiple layers of features from tiny images")
def cifar10(
    *,
    folder: str | None,
    validation: float = 0.1,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Dataset:
    """Return 60 000 colour photographs (3, 32, 32), 50 000 to learn from and 10 000 to test on.

    Args:
        folder: where files are looked for first.
        validation: share of the training file that is kept for validation.
        train_size: use only so many training samples, drawn by a fixed order; none for all.
        test_size: use only so many test samples, the first of the file; none for all.

    Raises:
        BadInput: the files are nowhere, or not what they should be.
        BadOption: sizes that cannot be had.
    """
    return collection("cifar10", ABOUT, Sizes(validation, train_size, test_size), folder, ADVICE)
