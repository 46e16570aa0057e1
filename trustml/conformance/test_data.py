"""What every dataset keeps to; those whose files are not at hand are skipped."""

import os

import pytest

from trustml.contracts import Dataset
from trustml.errors import UsageError
from trustml.registry import Plugin, all_of
from trustml.splits import check_dataset, check_split, data_hash

on_every_dataset = pytest.mark.parametrize(
    "plugin", [pytest.param(plugin, id=plugin.name) for plugin in all_of("data")]
)


def loaded(plugin: Plugin) -> Dataset:
    """Return the dataset with its default options, or skip where its files cannot be had."""
    try:
        dataset: Dataset = plugin.function(folder=os.environ.get("TRUSTML_DATA") or None)
    except UsageError as reason:
        pytest.skip(str(reason))
    return dataset


@on_every_dataset
def test_it_is_what_a_dataset_must_be(plugin: Plugin) -> None:
    """Types, shapes, the box, labels, ids that are unique over the parts, names and budgets."""
    dataset = check_dataset(loaded(plugin))
    assert dataset.budgets, "it names no usual budget, so `--epsilon` would always be needed"


@on_every_dataset
def test_it_is_the_same_each_time(plugin: Plugin) -> None:
    """Two loads give the same samples in the same parts: no chance in reading or splitting."""
    first, second = loaded(plugin), loaded(plugin)
    for part in ("train", "validation", "test"):
        assert data_hash(getattr(first, part)) == data_hash(getattr(second, part)), part


@on_every_dataset
def test_its_outside_splits_are_splits(plugin: Plugin) -> None:
    """Out-of-distribution partners whose files are at hand have the shape of the data itself."""
    dataset = loaded(plugin)
    for name in dataset.outside:
        try:
            outside = dataset.outside[name]
        except UsageError:
            continue
        assert check_split(outside, name).domain.shape == dataset.test.domain.shape
