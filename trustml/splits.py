"""Splits and datasets checked before anything is built on them; their hash; their shards."""

import hashlib
import math
from itertools import combinations
from typing import Any, get_args

import torch
from torch import Tensor

from trustml.contracts import Dataset, Norm, Split
from trustml.errors import BadInput

ROWS = 4096  # rows handled at a time, so that a check or a hash never copies a whole split


def check_split(split: Split, name: str) -> Split:
    """Return the split as it is, once everything that its contract promises holds.

    Args:
        name: what the message calls the split ("mnist test").

    Raises:
        BadInput: wrong types, shapes or lengths, no sample, an input that is not finite or outside
            the box, a label out of range, or an id that stands twice. The first one is named.
    """
    _check_types(split, name)
    _check_lengths(split, name)
    _check_inputs(split, name)
    _check_labels(split, name)
    _check_ids(split.ids, name)
    return split


def check_dataset(dataset: Dataset) -> Dataset:
    """Return the dataset as it is, once its three parts, names and budgets are right together.

    The out-of-distribution splits are not touched: they are read, and checked, when asked for.

    Raises:
        BadInput: a part that `check_split` refuses, parts of different shape, classes or bounds, a
            sample in two parts, or class names or budgets that do not fit.
    """
    parts = {part: getattr(dataset, part) for part in ("train", "validation", "test")}
    for part, split in parts.items():
        check_split(split, f"{dataset.name} {part}")
    for (one, first), (other, second) in combinations(parts.items(), 2):
        if first.domain != second.domain:
            raise BadInput(
                f"{dataset.name}: {one} and {other} differ: {first.domain} and {second.domain}"
            )
        shared = first.ids[torch.isin(first.ids, second.ids)]
        if len(shared):
            raise BadInput(
                f"{dataset.name}: sample id {int(shared[0])} is in {one} and in {other}; "
                f"{len(shared)} ids are in both, and no sample may be"
            )
    _check_names_and_budgets(dataset)
    return dataset


def data_hash(split: Split) -> str:
    """Return the SHA-256 of the bytes of x, then y, then ids, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for tensor in (split.x, split.y, split.ids):
        for start in range(0, len(tensor), ROWS):
            rows = tensor[start : start + ROWS].detach().cpu().contiguous()
            digest.update(rows.numpy().data)
    return digest.hexdigest()


def shard(split: Split, index: int, count: int) -> Split:
    """Return every `count`-th row from row `index` on; the `count` shards together are the split.

    Raises:
        BadInput: no such shard, or more shards than rows.
    """
    if not 0 <= index < count:
        raise BadInput(f"no shard {index} of {count}; shards are numbered 0 to {count - 1}")
    if count > len(split):
        raise BadInput(
            f"{len(split)} samples cannot be cut into {count} shards; use at most that many"
        )
    return split.at(slice(index, None, count))


def _check_types(split: Split, name: str) -> None:
    wanted: tuple[tuple[str, Any, torch.dtype], ...] = (
        ("x", split.x, torch.float32),
        ("y", split.y, torch.int64),
        ("ids", split.ids, torch.int64),
    )
    for part, tensor, dtype in wanted:
        if not isinstance(tensor, Tensor):
            raise BadInput(f"{name}: {part} is a {type(tensor).__name__}, it must be a tensor")
        if part == "y" and tensor.ndim == 2 and tensor.shape[1] > 1:
            raise BadInput(
                f"{name}: y has shape {tuple(tensor.shape)} and looks one-hot; "
                f"it must hold class numbers (B,): y.argmax(1)"
            )
        if tensor.dtype != dtype:
            raise BadInput(f"{name}: {part} is {tensor.dtype}, it must be {dtype}")
        if part != "x" and tensor.ndim != 1:
            raise BadInput(f"{name}: {part} has shape {tuple(tensor.shape)}, it must be (B,)")
    if split.x.ndim < 2:
        raise BadInput(f"{name}: x has shape {tuple(split.x.shape)}, it must be (B, *S)")


def _check_lengths(split: Split, name: str) -> None:
    lengths = len(split.x), len(split.y), len(split.ids)
    if len(set(lengths)) > 1:
        raise BadInput(
            f"{name}: {lengths[0]} inputs, {lengths[1]} labels and {lengths[2]} ids; "
            f"there must be as many of each"
        )
    if split.x.numel() == 0:
        raise BadInput(f"{name}: x has shape {tuple(split.x.shape)}; it must not be empty")


def _check_inputs(split: Split, name: str) -> None:
    low, high = split.low, split.high
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise BadInput(f"{name}: the box is [{low}, {high}]; low must be below high, both finite")
    least, most = (float(bound) for bound in split.x.aminmax())
    if low <= least and most <= high:  # NaN fails this too
        return
    for batch in split.batches(ROWS):
        flat = batch.x.flatten(1).double()
        bad = ~((flat >= low) & (flat <= high))
        if bad.any():
            row = int(bad.any(1).nonzero()[0])
            value = float(flat[row][bad[row]][0])
            what = f"outside [{low}, {high}]" if math.isfinite(value) else "not a finite number"
            raise BadInput(
                f"{name}: the input of sample id {int(batch.ids[row])} holds {value}, {what}"
            )


def _check_labels(split: Split, name: str) -> None:
    if split.classes < 2:
        raise BadInput(f"{name}: {split.classes} classes; a classifier needs 2 or more")
    bad = (split.y < 0) | (split.y >= split.classes)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise BadInput(
            f"{name}: sample id {int(split.ids[row])} has label {int(split.y[row])}; "
            f"{split.classes} classes are numbered 0 to {split.classes - 1}"
        )


def _check_ids(ids: Tensor, name: str) -> None:
    ordered = ids.sort().values
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        raise BadInput(
            f"{name}: sample id {int(twice[0])} stands more than once; ids must be unique"
        )


def _check_names_and_budgets(dataset: Dataset) -> None:
    names, classes = dataset.class_names, dataset.train.classes
    if len(names) != classes or len(set(names)) != classes:
        raise BadInput(
            f"{dataset.name}: {len(set(names))} different class names for {classes} classes"
        )
    for norm, epsilon in dataset.budgets.items():
        if norm not in get_args(Norm):
            raise BadInput(
                f"{dataset.name}: no norm {norm!r} for a budget; known: {', '.join(get_args(Norm))}"
            )
        if not (math.isfinite(epsilon) and epsilon > 0):
            raise BadInput(f"{dataset.name}: the {norm} budget is {epsilon}; it must be above 0")
