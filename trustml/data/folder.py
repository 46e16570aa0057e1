"""Images of one's own, in folders."""

import math
from typing import Literal

import numpy as np

from trustml.contracts import Dataset
from trustml.data._budgets import image_budgets
from trustml.data._outside import partners_of
from trustml.data._parts import Shares, joined
from trustml.data._pictures import class_names, listed, part_folders, read_pictures
from trustml.data._places import own_path
from trustml.errors import BadOption
from trustml.registry import data
from trustml.splits import check_dataset


@data(source="the user's own files")
def folder(
    *,
    folder: str | None,
    path: str = "",
    size: int | None = 32,
    channels: Literal[1, 3] = 3,
    validation: float = 0.1,
    test: float = 0.2,
    outside: tuple[str, ...] = (),
) -> Dataset:
    """Return the images (C, size, size) under a folder that has one subfolder a class.

    The folder may hold train, validation and test folders instead, each with its class folders.

    Args:
        folder: where a relative path is looked for after the current folder.
        path: the folder of images.
        size: side that each image is resized to; none leaves them, all must then be alike.
        channels: 3 for colour, 1 for grey.
        validation: share of the training images kept for validation where no folder has any.
        test: share of them kept for the test where no folder has any.
        outside: collections that serve as out-of-distribution partners, such as [svhn,mnist].

    Raises:
        BadOption: no path, a size below 1, or shares that cannot be had.
        BadInput: no such folder, fewer than two classes, or an image that cannot be read.
        UnknownName: a partner that is no known collection.
    """
    if size is not None and size < 1:
        raise BadOption(f"folder:size={size}; the side of an image is 1 or more")
    places = part_folders(own_path("folder", path, folder))
    names = class_names(places["train"])
    parts = {}
    for part, place in places.items():
        files = listed(place, names)
        images = read_pictures([file for file, _ in files], channels, size)
        parts[part] = (images, np.array([number for _, number in files]))
    train, held, tested = joined(parts, "folder", Shares(validation, test), len(names))
    budgets = image_budgets(math.prod(train.x.shape[1:]))
    partners = partners_of(tested, outside, folder)
    return check_dataset(Dataset("folder", train, held, tested, tuple(names), budgets, partners))
