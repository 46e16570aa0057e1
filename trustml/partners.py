"""Out-of-distribution partners of a dataset: its own ones, or another dataset made to fit.

Names that start with `shift_` show the host's classes in another hand: a covariate shift, on which
the model should still be right, and no out-of-distribution set.
"""

import zlib

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from trustml.contracts import Dataset, Domain, Split
from trustml.errors import BadInput, UnknownName
from trustml.recipes import choose
from trustml.registry import names
from trustml.splits import check_split

SHIFT = "shift_"
# Made of the host's own test inputs, with their labels.
DISTORTED = ("inverted", "rotated", "shuffled")
OFFSET = 10_000_000_000  # ids of one out-of-distribution set lie between two multiples of this
FIRST_GUEST = 1000  # above the numbers of the sets that come with the data
GUESTS = 100_000


def is_shift(name: str) -> bool:
    """Return whether the partner shows the host's classes, drawn otherwise."""
    return name.startswith(SHIFT)


def has_host_labels(name: str) -> bool:
    """Return whether the partner's labels are the host's classes, so that accuracy has a meaning.

    True of shifts and of distorted test inputs; noise and other collections have no right answer.
    """
    return is_shift(name) or name in DISTORTED


def partner(dataset: Dataset, name: str, folder: str | None) -> Split:
    """Return the partner of the name: of the dataset's own, or another dataset's test split.

    Another dataset's inputs are put into the host's box, and images are resized to the host's size.

    Args:
        dataset: the host.
        name: "noise", "kmnist", any dataset with options as `folder:path=letters`, or `shift_` and
            a dataset of the same classes.
        folder: where files are looked for first.

    Raises:
        UnknownName: neither a partner nor a dataset.
        BadInput: files that cannot be had, inputs that cannot be made to fit, or classes that the
            host has too.
    """
    try:
        return dataset.outside[name]
    except (UnknownName, KeyError):
        pass
    try:
        choice = choose("data", name.removeprefix(SHIFT))
    except UnknownName as error:
        known = {*dataset.outside, *names("data")}
        if name.removeprefix(SHIFT).split(":")[0] in known:
            raise  # it is one of its options that is unknown
        raise UnknownName.of("out-of-distribution set", name, known) from error
    guest: Dataset = choice.plugin.function(folder=folder, **choice.options)
    _check_classes(dataset, guest, name)
    x = _in_box(guest.test, dataset.test.domain, (guest.name, dataset.name))
    ids = guest.test.ids + OFFSET * (FIRST_GUEST + zlib.crc32(choice.text.encode()) % GUESTS)
    host = dataset.test
    return check_split(Split(x, guest.test.y, ids, guest.test.classes, host.low, host.high), name)


def fitted(x: Tensor, shape: tuple[int, ...], box: int | None = None) -> Tensor:
    """Return images (B, C, H, W) in the shape (C', H', W'), resized without aliasing.

    Args:
        x: images with values in [0, 1].
        shape: wanted of one image.
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


def _check_classes(host: Dataset, guest: Dataset, name: str) -> None:
    # The classes of a bare array have numbers, not names: that says nothing of what they show.
    named = guest.name != "npz"
    shared = [c for c in host.class_names if c in guest.class_names and named]
    if is_shift(name):
        if host.class_names != guest.class_names:
            raise BadInput(
                f"{name}: a shift shows the same classes, and {guest.name} has "
                f"{_some(guest.class_names)} where {host.name} has {_some(host.class_names)}"
            )
    elif host.name == guest.name and shared:
        raise BadInput(
            f"{name} is not outside {host.name}: leave classes out of the host, as in "
            f"digits:classes=[0,1,2,3,4,5,6,7], and ask for held_out"
        )
    elif shared:
        raise BadInput(
            f"{name} is not outside {host.name}: both show the classes {_some(shared)}; as a "
            f"covariate shift ask for {SHIFT}{name}"
        )


def _some(classes: list[str] | tuple[str, ...]) -> str:
    return ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")


def _in_box(split: Split, domain: Domain, owners: tuple[str, str]) -> Tensor:
    """Return the split's inputs in the domain's shape and box.

    Raises:
        BadInput: the shapes differ, and they are not both images.
    """
    shape = tuple(split.x.shape[1:])
    x = ((split.x - split.low) / (split.high - split.low)).clamp(0, 1)
    if shape != domain.shape:
        if len(shape) != 3 or len(domain.shape) != 3:
            raise BadInput(
                f"{owners[0]} has inputs of shape {shape}, {owners[1]} of {domain.shape}, and only "
                f"images can be made to fit images: save them in that shape as "
                f"numpy.savez('other.npz', x=x.reshape({(-1, *domain.shape)}), y=y) and ask for "
                f"npz:path=other.npz"
            )
        x = fitted(x, domain.shape)
    return torch.clamp(domain.low + (domain.high - domain.low) * x, domain.low, domain.high)
