"""The well-known image files: where each lies, how it is read, and who offers it for download."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trustml.data._batches import read_batches
from trustml.data._download import fetch
from trustml.data._idx import read_idx
from trustml.data._libsvm import read_libsvm
from trustml.data._places import cache, find, searched
from trustml.errors import BadInput

Part = Literal["train", "test"]
CLASSES = 10  # all of these have ten


@dataclass(frozen=True, slots=True)
class Raw:
    """One part as its files have it: images (B, C, H, W), uint8 or in [0, 1], and labels (B,)."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class Source:
    """One collection of files.

    Args:
        shape: of one image, (C, H, W).
        files: part → for each file that it needs, the relative paths where it may lie.
        read: (paths, part, shape) → images and labels.
        fetched: the class of torchvision.datasets that downloads it, or "".
        host: a server that answers when the download can work.
        options: part → what else that class is called with.
    """

    shape: tuple[int, int, int]
    files: Mapping[Part, tuple[tuple[str, ...], ...]]
    read: Callable[[list[Path], Part, tuple[int, int, int]], tuple[np.ndarray, np.ndarray]]
    fetched: str = ""
    host: str = ""
    options: Mapping[Part, Mapping[str, Any]] = field(default_factory=dict)


def found(name: str, part: Part, folder: str | None) -> bool:
    """Return whether every file of the part lies in one of the places."""
    return all(find(folder, ways) for ways in SOURCES[name].files[part])


def read_part(name: str, part: Part, folder: str | None, advice: str = "") -> Raw:
    """Return the images and labels of one part, downloading its files if they are nowhere.

    Args:
        advice: what else the user could do when the files cannot be had.

    Raises:
        BadInput: the files are nowhere and cannot be downloaded, or are not what they should be.
    """
    source = SOURCES[name]
    paths = _paths(name, part, folder, advice)
    images, labels = source.read(paths, part, source.shape)
    where = " and ".join(map(str, paths))
    if images.shape[1:] != source.shape:
        raise BadInput(f"{where}: images of shape {images.shape[1:]}, {name} has {source.shape}")
    if len(images) != len(labels):
        raise BadInput(f"{where}: {len(images)} images but {len(labels)} labels")
    if not len(labels):
        raise BadInput(f"{where}: no image in it")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise BadInput(
            f"{where}: labels from {labels.min()} to {labels.max()}; {name} has 0 to {CLASSES - 1}"
        )
    return Raw(images, labels.astype(np.int64))


def _paths(name: str, part: Part, folder: str | None, advice: str) -> list[Path]:
    source = SOURCES[name]
    ways = source.files[part]
    paths = [find(folder, way) for way in ways]
    reason = "there is no public download of it"
    if None in paths and source.fetched:
        layout = [way for part_ways in source.files.values() for way in part_ways]
        reason = fetch(source.fetched, source.host, source.options.get(part, {}), layout, cache())
        paths = [find(folder, way) for way in ways]
    present = [path for path in paths if path is not None]
    if len(present) < len(ways):
        absent = [" or ".join(way) for way, path in zip(ways, paths, strict=True) if path is None]
        raise BadInput(
            f"{name}: not found: {', '.join(absent)}; looked in {searched(folder)}; {reason}. "
            f"Name the folder that holds it with --data-dir or TRUSTML_DATA{advice}"
        )
    return present


def _read_idx_pair(
    paths: list[Path], part: Part, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    return read_idx(paths[0], 3)[:, None], read_idx(paths[1], 1)


def _read_usps(
    paths: list[Path], part: Part, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    values, labels = read_libsvm(paths[0], pixels=shape[1] * shape[2])
    return values.reshape(-1, *shape), labels


def _read_cifar(
    paths: list[Path], part: Part, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    train = tuple(f"data_batch_{number}" for number in range(1, 6))
    return read_batches(paths[0], train if part == "train" else ("test_batch",))


def _read_svhn(
    paths: list[Path], part: Part, shape: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat

    try:
        content = loadmat(paths[0], variable_names=["X", "y"])
    except Exception as error:  # damaged files raise almost anything
        raise BadInput(f"{paths[0]}: cannot be read as a MATLAB file: {error}") from error
    if not {"X", "y"} <= content.keys() or content["X"].ndim != 4:
        raise BadInput(f"{paths[0]}: it must hold X of 4 axes and y; it holds {sorted(content)}")
    labels = content["y"].reshape(-1).astype(np.int64)
    labels[labels == 10] = 0  # the files call the digit 0 class 10
    return content["X"].transpose(3, 2, 0, 1), labels


def _idx_files(base: str) -> dict[Part, tuple[tuple[str, ...], ...]]:
    """Return MNIST's layout under `base`, unpacked first since that reads faster."""

    def pair(start: str) -> tuple[tuple[str, ...], ...]:
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return tuple(
            (f"{base}/raw/{start}-{kind}", f"{base}/raw/{start}-{kind}.gz") for kind in kinds
        )

    return {"train": pair("train"), "test": pair("t10k")}


def _idx_source(base: str, host: str) -> Source:
    return Source((1, 28, 28), _idx_files(base), _read_idx_pair, base if host else "", host)


SOURCES: Mapping[str, Source] = {
    "mnist": _idx_source("MNIST", "https://ossci-datasets.s3.amazonaws.com"),
    "fashion_mnist": _idx_source(
        "FashionMNIST", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    ),
    "kmnist": _idx_source("KMNIST", "http://codh.rois.ac.jp"),
    "notmnist": _idx_source("notMNIST", ""),
    "usps": Source(
        (1, 16, 16),
        {
            "train": (("USPS/usps.bz2", "usps.bz2", "USPS/usps"),),
            "test": (("USPS/usps.t.bz2", "usps.t.bz2", "USPS/usps.t"),),
        },
        _read_usps,
        "USPS",
        "https://www.csie.ntu.edu.tw",
        {"train": {"train": True}, "test": {"train": False}},
    ),
    "cifar10": Source(
        (3, 32, 32),
        {
            part: (
                (
                    "cifar-10-batches-py",
                    "CIFAR10/cifar-10-batches-py",
                    "cifar-10-python.tar.gz",
                    "CIFAR10/cifar-10-python.tar.gz",
                ),
            )
            for part in ("train", "test")
        },
        _read_cifar,
        "CIFAR10",
        "https://www.cs.toronto.edu",
    ),
    "svhn": Source(
        (3, 32, 32),
        {
            part: ((f"SVHN/{part}_32x32.mat", f"{part}_32x32.mat"),)
            for part in ("train", "test")
        },
        _read_svhn,
        "SVHN",
        "http://ufldl.stanford.edu",
        {"train": {"split": "train"}, "test": {"split": "test"}},
    ),
}  # fmt: skip
