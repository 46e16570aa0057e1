"""Out-of-distribution partners of a dataset, each read or made only when it is asked for."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from trustml.contracts import Split
from trustml.data._parts import TEST_IDS, fixed_order, scrambled, split_of
from trustml.data._sources import CLASSES, SOURCES, found, read_part
from trustml.errors import UnknownName
from trustml.splits import check_split

NOISE_SAMPLES = 2000
SHIFT = "shift_"  # before the name of a partner that shows the same classes in another hand
OFFSET = 10_000_000_000  # ids of one out-of-distribution set lie between two multiples of this
NUMBERS = {
    name: number for number, name in enumerate(("noise", "inverted", "shuffled", *SOURCES), 1)
}
MNIST_BOX = 20  # MNIST's digits lie in a box of 20×20 amid 28×28


@dataclass(frozen=True, slots=True)
class Partner:
    """How a split is had: `ready` says whether no download is needed for it."""

    make: Callable[[], Split]
    ready: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True, eq=False)
class Outside(Mapping[str, Split]):
    """Name → split, over the partners whose files are at hand; each is made anew when asked for.

    A known name whose files are elsewhere is not counted and not iterated over, yet asking for it
    fetches it.
    """

    partners: Mapping[str, Partner]

    def __getitem__(self, name: str) -> Split:
        """Return the split.

        Raises:
            UnknownName: there is no such partner.
            BadInput: its files cannot be had or read.
        """
        if name not in self.partners:
            raise UnknownName.of("out-of-distribution set", name, self.partners)
        return self.partners[name].make()

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)

    def __iter__(self) -> Iterator[str]:
        return (name for name, partner in self.partners.items() if partner.ready())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def partners_of(test: Split, names: tuple[str, ...], folder: str | None) -> Outside:
    """Return noise, for images also inverted and shuffled ones, and the named collections' tests.

    Args:
        names: of `SOURCES`, after `shift_` where a collection shows the classes of `test`.

    Raises:
        UnknownName: a name that is no collection of image files.
    """
    partners = {"noise": Partner(partial(_noise, test))}
    if test.x.ndim == 4:
        partners["inverted"] = Partner(partial(_inverted, test))
        partners["shuffled"] = Partner(partial(_shuffled, test))
    for name in names:
        source = name.removeprefix(SHIFT)
        if source not in SOURCES:
            raise UnknownName.of("collection of images", source, SOURCES)
        partners[name] = Partner(
            partial(_collection, source, test, folder), partial(found, source, "test", folder)
        )
    return Outside(partners)


def fitted(x: Tensor, shape: tuple[int, ...], box: int | None = None) -> Tensor:
    """Return images (B, C, H, W) in the shape (C', H', W'), resized without aliasing.

    Args:
        box: side of the square amid the result that the images are put into; all of it for None.
    """
    channels, height, width = shape
    if x.shape[1] != channels:
        x = x.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    size = (box, box) if box else (height, width)
    if x.shape[2:] != size:
        x = interpolate(x, size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
    left, top = (width - size[1]) // 2, (height - size[0]) // 2
    return pad(x, (left, width - size[1] - left, top, height - size[0] - top)).contiguous()


def uniform(count: int, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return `count` inputs (B, *S) uniform in the box, the same ones always."""
    unit = (scrambled(count * math.prod(shape)) >> np.uint64(40)) / 2**24
    x = torch.from_numpy((low + (high - low) * unit).astype(np.float32)).reshape(count, *shape)
    return x.clamp_(low, high)


def outside_split(name: str, x: Tensor, test: Split, ids: Tensor, y: Tensor | None = None) -> Split:
    """Return the checked out-of-distribution split; labels are 0 for inputs that have no class.

    Raises:
        BadInput: what `check_split` refuses.
    """
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    ids = ids + OFFSET * NUMBERS[name]
    return check_split(Split(x, y, ids, test.classes, test.low, test.high), name)


def _noise(test: Split) -> Split:
    x = uniform(NOISE_SAMPLES, tuple(test.x.shape[1:]), test.low, test.high)
    return outside_split("noise", x, test, torch.arange(NOISE_SAMPLES))


def _collection(name: str, test: Split, folder: str | None) -> Split:
    raw = read_part(name, "test", folder)
    rows = fixed_order(len(raw.labels))  # some files are sorted by class
    split = split_of(raw.images[rows], raw.labels[rows], TEST_IDS + rows, CLASSES)
    shape = tuple(test.x.shape[1:])
    x = fitted(_unframed(split.x, name, shape), shape, _frame(name, shape))
    x = (test.low + (test.high - test.low) * x).clamp(test.low, test.high)
    ids = split.ids + OFFSET * NUMBERS[name]
    return check_split(Split(x, split.y, ids, CLASSES, test.low, test.high), name)


def _frame(name: str, shape: tuple[int, ...]) -> int | None:
    """Return the box for digits that fill their image, when they go where MNIST's do not."""
    return MNIST_BOX if name == "usps" and shape[1:] == (28, 28) else None


def _unframed(x: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    """Return MNIST's digits without their empty border, when they go where digits have none."""
    if name == "mnist" and shape[1:] in ((8, 8), (16, 16)):
        border = (x.shape[-1] - MNIST_BOX) // 2
        return x[..., border:-border, border:-border]
    return x


def _inverted(test: Split) -> Split:
    """Return the test images with dark and bright exchanged."""
    x = (test.low + test.high - test.x).clamp(test.low, test.high)
    return outside_split("inverted", x, test, test.ids, test.y)


def _shuffled(test: Split) -> Split:
    """Return the test images with each one's rows, then its columns, in another order."""
    height, width = test.x.shape[-2:]
    keys = scrambled(len(test) * (height + width)).reshape(len(test), height + width)
    rows = torch.from_numpy(keys[:, :height].argsort(1))[:, None, :, None]
    columns = torch.from_numpy(keys[:, height:].argsort(1))[:, None, None, :]
    x = test.x.gather(2, rows.expand_as(test.x)).gather(3, columns.expand_as(test.x))
    return outside_split("shuffled", x, test, test.ids, test.y)
