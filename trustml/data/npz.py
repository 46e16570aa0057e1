"""Arrays of one's own, in npz files."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from trustml.contracts import Dataset
from trustml.data._budgets import image_budgets
from trustml.data._npz import Arrays, read_npz
from trustml.data._outside import partners_of
from trustml.data._parts import Shares, joined
from trustml.data._places import own_path
from trustml.errors import BadInput, BadOption
from trustml.registry import data
from trustml.splits import check_dataset

Layout = Literal["auto", "nchw", "nhwc", "nhw", "flat"]
AXES = {"nchw": 4, "nhwc": 4, "nhw": 3, "flat": 2}
CHANNELS = (1, 3, 4)


@data(source="the user's own files")
def npz(
    *,
    folder: str | None,
    path: str = "",
    layout: Layout = "auto",
    low: float = 0.0,
    high: float = 1.0,
    validation: float = 0.1,
    test: float = 0.2,
    test_tail: int = 0,
    outside: tuple[str, ...] = (),
) -> Dataset:
    """Return the arrays of an npz file, or of a folder with train.npz and perhaps test*.npz.

    Args:
        folder: where a relative path is looked for after the current folder.
        path: a file with x and y, or x_train, y_train, x_test, y_test; or the folder.
        layout: what the axes of x mean; "auto" finds the channels where only one axis can be them.
        low: least value of inputs that are not uint8 (those become 0 to 1).
        high: greatest value of inputs that are not uint8.
        validation: share of the training rows kept for validation where no file has any.
        test: share of them kept for the test where no file and no tail has any.
        test_tail: so many of the last training rows are test rows, after those of a test file.
        outside: collections that serve as out-of-distribution partners, such as [svhn,mnist].

    Raises:
        BadOption: no path, or options that do not fit what the files hold.
        BadInput: a file that is nowhere, damaged, without the keys, or with arrays that do not fit.
        UnknownName: a partner that is no known collection.
    """
    place = own_path("npz", path, folder)
    parts = {
        part: (_channels_first(x, layout, f"{place}: {part} x"), y)
        for part, (x, y) in read_npz(place).items()
    }
    classes = _classes(parts, place)
    box = _box(parts, low, high, place)
    shares = Shares(validation, test, test_tail)
    train, held, tested = joined(parts, "npz", shares, classes, box, keep_order=True)
    names = tuple(map(str, range(classes)))
    budgets = image_budgets(math.prod(train.x.shape[1:]), box[1] - box[0])
    partners = partners_of(tested, outside, folder)
    return check_dataset(Dataset("npz", train, held, tested, names, budgets, partners))


def _channels_first(x: np.ndarray, layout: Layout, where: str) -> np.ndarray:
    """Return x as (B, C, H, W), or as it is for rows that are no images."""
    if layout == "auto":
        layout = _guess(x, where)
    if x.ndim != AXES[layout]:
        raise BadOption(f"{where} has shape {x.shape}; layout={layout} needs {AXES[layout]} axes")
    if layout == "nhwc":
        return x.transpose(0, 3, 1, 2)
    return x[:, None] if layout == "nhw" else x


def _guess(x: np.ndarray, where: str) -> Layout:
    if x.ndim == 2:
        return "flat"
    if x.ndim == 3:
        return "nhw"
    if x.ndim == 4 and (x.shape[1] in CHANNELS) != (x.shape[3] in CHANNELS):
        return "nchw" if x.shape[1] in CHANNELS else "nhwc"
    raise BadInput(
        f"{where} has shape {x.shape}; say which axis is which with layout={' or '.join(AXES)}"
    )


def _classes(parts: Mapping[str, Arrays], place: Path) -> int:
    labels = np.concatenate([y for _, y in parts.values()])
    if not len(labels):
        raise BadInput(f"{place}: no sample in it")
    least, most = int(labels.min()), int(labels.max())
    if least != 0:
        raise BadInput(f"{place}: labels go from {least} to {most}; they must start at 0")
    if most >= len(labels):
        raise BadInput(
            f"{place}: labels go up to {most} for {len(labels)} samples; give class numbers"
        )
    return most + 1


def _box(parts: Mapping[str, Arrays], low: float, high: float, place: Path) -> tuple[float, float]:
    """Return the bounds that the inputs live in, as float32 has them."""
    pixels = {x.dtype == np.uint8 for x, _ in parts.values()}
    if len(pixels) > 1:
        raise BadInput(f"{place}: some parts are uint8 and some are not; save all alike")
    if True in pixels:
        if (low, high) != (0, 1):
            raise BadOption("npz: low and high are for floats; uint8 inputs become 0 to 1")
        return 0.0, 1.0
    box = float(np.float32(low)), float(np.float32(high))
    least = min((float(x.min()) for x, _ in parts.values() if x.size), default=box[0])
    most = max((float(x.max()) for x, _ in parts.values() if x.size), default=box[1])
    if math.isfinite(least) and math.isfinite(most) and not box[0] <= least <= most <= box[1]:
        raise BadInput(
            f"{place}: x goes from {least:g} to {most:g}, outside [{low:g}, {high:g}]; "
            f"say what it may be: npz:low={math.floor(least)},high={math.ceil(most)}"
        )
    return box
