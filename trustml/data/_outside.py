"""Out-of-distribution partners of a dataset, each read or made only when it is asked for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.data._made import (
    SAMPLES,
    gaussian,
    inverted,
    photographs,
    rotated,
    shuffled,
    uniform,
)
from trustml.data._parts import TEST_IDS, fixed_order, split_of
from trustml.data._sources import CLASSES, SOURCES, found, read_part
from trustml.errors import UnknownName
from trustml.partners import OFFSET, SHIFT, fitted, has_host_labels, is_shift
from trustml.splits import check_split

# A set's number is in its samples' ids: new ones go to the end.
NUMBERED = (
    "noise", "inverted", "shuffled", *SOURCES, "gaussian", "rotated", "photographs", "held_out"
)  # fmt: skip
NUMBERS = {name: number for number, name in enumerate(NUMBERED, 1)}
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


def partners_of(
    test: Split, names: tuple[str, ...], folder: str | None, held_out: Split | None = None
) -> Outside:
    """Return noise, for images also distorted and photographed ones, and collections' tests.

    Args:
        test: the host's test split.
        names: of `SOURCES`, after `shift_` where a collection shows the classes of `test`.
        folder: where files are looked for first.
        held_out: test samples of classes that the host was made without; its shifts, which show
            them too, are left out.

    Raises:
        UnknownName: a name that is no collection of image files.
    """
    box = tuple(test.x.shape[1:]), test.low, test.high
    made: dict[str, Callable[[], Tensor]] = {
        "noise": partial(uniform, SAMPLES, *box),
        "gaussian": partial(gaussian, SAMPLES, *box),
    }
    if test.x.ndim == 4:
        made["photographs"] = partial(photographs, SAMPLES, *box)
        for distort in (inverted, rotated, shuffled):
            made[distort.__name__] = partial(distort, test)
    partners = {name: Partner(partial(_made, name, make, test)) for name, make in made.items()}
    if held_out is not None:
        x, ids = held_out.x, held_out.ids
        partners["held_out"] = Partner(partial(outside_split, "held_out", x, test, ids))
    for name in names:
        source = name.removeprefix(SHIFT)
        if source not in SOURCES:
            raise UnknownName.of("collection of images", source, SOURCES)
        if held_out is None or not is_shift(name):
            partners[name] = Partner(
                partial(_collection, source, test, folder), partial(found, source, "test", folder)
            )
    return Outside(partners)


def outside_split(name: str, x: Tensor, test: Split, ids: Tensor, y: Tensor | None = None) -> Split:
    """Return the checked out-of-distribution split; labels are 0 for inputs that have no class.

    Raises:
        BadInput: what `check_split` refuses.
    """
    y = torch.zeros(len(x), dtype=torch.int64) if y is None else y
    ids = ids + OFFSET * NUMBERS[name]
    return check_split(Split(x, y, ids, test.classes, test.low, test.high), name)


def _made(name: str, make: Callable[[], Tensor], test: Split) -> Split:
    if has_host_labels(name):
        return outside_split(name, make(), test, test.ids, test.y)
    return outside_split(name, make(), test, torch.arange(SAMPLES))


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
