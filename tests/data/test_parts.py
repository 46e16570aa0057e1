"""The fixed order, shares and class order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustml.data._parts import (
    TEST_IDS,
    Shares,
    class_order,
    cut,
    fixed_order,
    head,
    joined,
    scrambled,
    split_of,
    training_rows,
)
from trustml.errors import BadInput, BadOption


def test_scrambled_is_splitmix64():
    # The first three outputs of the generator seeded with 0, as published with its reference code.
    wanted = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert scrambled(3).tolist() == wanted


@given(st.integers(0, 500))
def test_the_fixed_order_is_a_permutation(count):
    assert sorted(fixed_order(count)) == list(range(count))


def test_the_fixed_order_looks_like_chance():
    # Among 100 000 random places, rank and number correlate by 1/sqrt(count) = 0.003 or so.
    order = fixed_order(100_000)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.015


@given(st.integers(20, 500), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_shares_cut_all_rows_once_and_in_size(count, test, validation):
    parts = cut(count, "toy", test=test, validation=validation)
    assert sorted(np.concatenate(parts)) == list(range(count))
    assert [len(part) for part in parts[:2]] == [round(test * count), round(validation * count)]


@pytest.mark.parametrize(
    "shares",
    [{"test": 0.0}, {"test": 1.0}, {"test": -0.1}, {"test": float("nan")}, {"test": 0.01},
     {"test": 0.6, "validation": 0.4}],
)  # fmt: skip
def test_shares_that_cannot_be_are_refused(shares):
    with pytest.raises(BadOption, match="toy"):
        cut(10, "toy", **shares)


def test_head():
    rows = np.arange(5)
    assert head(rows, None, "toy", "size") is rows
    assert head(rows, 5, "toy", "size").tolist() == [0, 1, 2, 3, 4]
    for size in (0, 6, -1):
        with pytest.raises(BadOption, match=f"toy:size={size} is not between 1 and 5"):
            head(rows, size, "toy", "size")


def test_classes_are_ordered_as_numbers_only_if_all_are():
    assert class_order({"10", "9", "-1"}) == ["-1", "9", "10"]
    assert class_order({"10", "9", "x"}) == ["10", "9", "x"]


def test_bytes_become_fractions_as_division_gives_them():
    values = np.arange(256, dtype=np.uint8).reshape(256, 1)
    split = split_of(values, np.zeros(256), np.arange(256), 2)
    wanted = (np.arange(256) / 255).astype(np.float32)  # rounded once, from float64
    np.testing.assert_array_equal(split.x[:, 0].numpy(), wanted)


def test_floats_are_kept_and_what_overflows_turns_infinite():
    split = split_of(np.array([[0.5], [1e300]]), np.zeros(2), np.arange(2), 2)
    assert split.x[:, 0].tolist() == [0.5, float("inf")]


def rows_of(count, start=0):
    return np.arange(start, start + count, dtype=np.float64)[:, None], np.zeros(count, int)


def test_a_tail_goes_behind_the_test_file_and_is_not_trained_on():
    parts = {"train": rows_of(20), "test": rows_of(3, 100)}
    box = (0.0, 200.0)
    shares = Shares(0.25, 0.5, tail=4)
    train, held, test = joined(parts, "toy", shares, 2, box, keep_order=True)
    assert test.ids.tolist() == [TEST_IDS, TEST_IDS + 1, TEST_IDS + 2, 16, 17, 18, 19]
    assert test.x[:, 0].tolist() == [100, 101, 102, 16, 17, 18, 19]
    assert len(held) == 4  # a quarter of the 16 rows that are left
    assert sorted([*train.ids.tolist(), *held.ids.tolist()]) == list(range(16))
    counts = {"train": 20, "test": 3}
    assert training_rows(counts, "toy", shares).tolist() == train.ids.tolist()


def test_files_for_all_parts_are_used_whole():
    parts = {"train": rows_of(4), "validation": rows_of(3), "test": rows_of(2)}
    sizes = [len(split) for split in joined(parts, "toy", Shares(0.9, 0.9), 2)]
    assert sizes == [4, 3, 2]


def test_a_sorted_test_file_is_mixed_unless_its_order_is_kept():
    parts = {"train": rows_of(10), "test": rows_of(50)}
    for keep_order in (True, False):
        test = joined(parts, "toy", Shares(0.2, 0.2), 2, keep_order=keep_order)[2]
        assert (test.x[:, 0].tolist() == list(range(50))) is keep_order
        assert sorted(test.ids.tolist()) == list(range(TEST_IDS, TEST_IDS + 50))


@pytest.mark.parametrize("tail", [-1, 10, 11])
def test_a_tail_that_leaves_nothing_is_refused(tail):
    with pytest.raises(BadOption, match=f"a tail of {tail} rows"):
        joined({"train": rows_of(10)}, "toy", Shares(0.2, 0.2, tail), 2)


def test_parts_that_do_not_fit_are_refused():
    wide = np.zeros((4, 2)), np.zeros(4, int)
    with pytest.raises(BadInput, match=r"one test input has shape \(2,\), one train input \(1,\)"):
        joined({"train": rows_of(10), "test": wide}, "toy", Shares(0.2, 0.2), 2)
    with pytest.raises(BadInput, match="4 test inputs but 3 labels"):
        joined(
            {"train": rows_of(10), "test": (np.zeros((4, 1)), np.zeros(3))},
            "toy", Shares(0.2, 0.2), 2,
        )  # fmt: skip
