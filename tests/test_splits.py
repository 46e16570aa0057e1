"""Checks, hash and shards of splits."""

import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trustml.contracts import Dataset, Split
from trustml.errors import BadInput
from trustml.splits import check_dataset, check_split, data_hash, shard


def some_split(count=6, first_id=0, classes=3):
    """A split that keeps every promise."""
    x = torch.linspace(0, 1, count * 4).reshape(count, 1, 2, 2)
    return Split(x, torch.arange(count) % classes, torch.arange(count) + first_id, classes)


def some_dataset(**changes):
    parts = [some_split(first_id=start) for start in (0, 100, 200)]
    return replace(Dataset("toy", *parts, ("a", "b", "c"), {"linf": 0.1}), **changes)


@given(st.integers(1, 40), st.integers(2, 5), st.integers(-(2**62), 2**62), st.integers(0, 2**31))
def test_a_right_split_comes_back_as_it_is(count, classes, first_id, seed):
    # Right by construction, up to inputs that lie on the box's very edge.
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 5, (count, 3), generator=generator) / 4
    y = torch.randint(0, classes, (count,), generator=generator)
    split = Split(x, y, torch.arange(count) + first_id, classes)
    assert check_split(split, "toy") is split


@given(
    st.integers(1, 30),
    st.data(),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 1.0000002, -1e-45, 7.0]),
)
def test_one_bad_input_is_found_and_named(count, data, value):
    # One entry anywhere is enough; -1e-45 is below 0 and 1.0000002 above 1, each by one step.
    row = data.draw(st.integers(0, count - 1))
    split = some_split(count, first_id=500)
    split.x[row, 0, data.draw(st.integers(0, 1)), 1] = value
    with pytest.raises(BadInput, match=f"toy test: the input of sample id {500 + row} holds"):
        check_split(split, "toy test")


def test_the_first_bad_sample_is_named_beyond_the_first_block_of_rows():
    split = some_split(9000)
    split.x[5000:7000] = float("nan")
    with pytest.raises(BadInput, match="sample id 5000 holds nan, not a finite number"):
        check_split(split, "toy")


@given(st.integers(1, 30), st.data(), st.sampled_from([-1, 3, 2**40, -(2**63)]))
def test_one_bad_label_is_found_and_named(count, data, label):
    row = data.draw(st.integers(0, count - 1))
    split = some_split(count)
    split.y[row] = label
    with pytest.raises(
        BadInput, match=f"sample id {row} has label {label}; 3 classes are numbered"
    ):
        check_split(split, "toy")


@given(st.integers(2, 30), st.data())
def test_an_id_that_stands_twice_is_found(count, data):
    one, other = data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
    split = some_split(count)
    split.ids[one] = split.ids[other].clone()
    with pytest.raises(BadInput, match=f"sample id {other} stands more than once"):
        check_split(split, "toy")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"x": torch.zeros(6, 4, dtype=torch.float64)},
            "x is torch.float64, it must be torch.float32",
        ),
        ({"x": torch.zeros(6)}, "x has shape"),
        ({"x": [[0.0]] * 6}, "x is a list"),
        ({"x": torch.zeros(5, 4)}, "5 inputs, 6 labels and 6 ids"),
        ({"x": torch.zeros(6, 0)}, "must not be empty"),
        ({"y": torch.zeros(6, dtype=torch.int32)}, "y is torch.int32"),
        ({"y": torch.zeros(6)}, "y is torch.float32"),
        ({"y": torch.eye(6, 3)}, "looks one-hot"),
        ({"y": torch.eye(6, 3, dtype=torch.int64)}, "looks one-hot"),
        ({"y": torch.zeros(6, 1, dtype=torch.int64)}, "y has shape"),
        ({"y": torch.zeros(7, dtype=torch.int64)}, "6 inputs, 7 labels and 6 ids"),
        ({"ids": torch.arange(6.0)}, "ids is torch.float32"),
        ({"ids": torch.arange(4)}, "6 inputs, 6 labels and 4 ids"),
        ({"classes": 1}, "1 classes"),
        ({"low": 1.0}, r"box is \[1.0, 1.0\]"),
        ({"high": float("inf")}, "box is"),
        ({"low": float("nan")}, "box is"),
    ],
)
def test_each_broken_promise_has_its_message(changes, words):
    with pytest.raises(BadInput, match=words):
        check_split(replace(some_split(), **changes), "toy")


def test_an_empty_split_is_refused():
    with pytest.raises(BadInput, match="must not be empty"):
        check_split(some_split().at(slice(0, 0)), "toy")


def test_a_right_dataset_comes_back_and_its_outside_is_not_touched():
    class Explosive(dict):
        def __getitem__(self, name):
            raise AssertionError(name)

        __iter__ = keys = values = items = __getitem__

    dataset = some_dataset(outside=Explosive())
    assert check_dataset(dataset) is dataset


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": some_split(first_id=5)}, "sample id 5 is in train and in test; 1 ids"),
        ({"validation": some_split(first_id=202)}, "sample id 202 is in validation and in test"),
        ({"test": some_split(first_id=300, classes=2)}, "train and test differ"),
        ({"class_names": ("a", "b")}, "2 different class names for 3 classes"),
        ({"class_names": ("a", "b", "b")}, "2 different class names for 3 classes"),
        ({"budgets": {"l7": 0.1}}, "no norm 'l7'"),
        ({"budgets": {"l2": 0.0}}, "must be above 0"),
        ({"budgets": {"l2": float("nan")}}, "must be above 0"),
    ],
)
def test_each_broken_promise_of_a_dataset_has_its_message(changes, words):
    with pytest.raises(BadInput, match=words):
        check_dataset(some_dataset(**changes))


def test_a_bad_part_is_named_with_its_dataset():
    bad = some_split(first_id=300)
    bad.x[0] = 2
    with pytest.raises(BadInput, match="toy validation: the input of sample id 300"):
        check_dataset(some_dataset(validation=bad))


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 9000])
def test_the_hash_is_that_of_all_bytes_at_once(count):
    # SHA-256 over the concatenated bytes, computed in one piece by hashlib.
    split = some_split(count)
    whole = b"".join(t.numpy().tobytes() for t in (split.x, split.y, split.ids))
    assert data_hash(split) == hashlib.sha256(whole).hexdigest()


def test_the_hash_sees_values_labels_and_ids_but_not_the_memory_layout():
    split = some_split()
    before = data_hash(split)
    turned = replace(split, x=split.x.transpose(2, 3).contiguous().transpose(2, 3))
    assert not turned.x.is_contiguous()
    assert data_hash(turned) == before
    for part in ("x", "y", "ids"):
        changed = getattr(split, part).clone()
        changed.view(-1)[-1] += 1
        assert data_hash(replace(split, **{part: changed})) != before


@given(st.integers(1, 30), st.data())
def test_shards_together_are_the_split_and_differ_by_one_row_at_most(rows, data):
    count = data.draw(st.integers(1, rows))
    split = some_split(rows)
    shards = [shard(split, index, count) for index in range(count)]
    ids = torch.cat([part.ids for part in shards])
    assert sorted(ids.tolist()) == split.ids.tolist()
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all((part.x == split.x[part.ids]).all() for part in shards)


@pytest.mark.parametrize(("index", "count"), [(-1, 2), (2, 2), (0, 0), (0, 7)])
def test_a_shard_that_cannot_be_is_refused(index, count):
    with pytest.raises(BadInput):
        shard(some_split(6), index, count)
