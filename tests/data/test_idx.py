"""The idx reader: files written by hand come back; damaged ones are named."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from trustml.data._idx import read_idx
from trustml.errors import BadInput


@given(
    arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6)),
    st.sampled_from(["", ".gz"]),
)
def test_what_was_written_comes_back(tmp_path_factory, array, suffix):
    # The format by hand: 0 0 8 axes, big-endian sizes, then the bytes, last axis fastest.
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = header + array.tobytes()
    path = tmp_path_factory.mktemp("idx") / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


WHOLE = bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "starts with nothing"),
        (b"\x89PNG" + WHOLE, "not an idx file; it starts with 89504e47"),
        (b"\0\0\x0d" + WHOLE[3:], "of type 13 with 1 axes; wanted type 8"),
        (bytes([0, 0, 8, 3]) + WHOLE[4:], "with 3 axes; wanted type 8 .* with 1"),
        (WHOLE[:6], "truncated inside its header"),
        (WHOLE[:-1], r"truncated; its header promises 3 bytes \(3,\), it holds 2"),
        (WHOLE + b"\0", "too long"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_file_is_named_with_its_fault(tmp_path, content, words, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(BadInput, match=words) as caught:
        read_idx(path, 1)
    assert str(path) in str(caught.value)


@given(st.integers(0, 34))
def test_a_gzip_file_cut_anywhere_is_refused(tmp_path_factory, length):
    # The compressed file has more than 34 bytes, so that every cut loses something.
    packed = gzip.compress(WHOLE)
    assert len(packed) > 30
    path = tmp_path_factory.mktemp("cut") / "file.gz"
    path.write_bytes(packed[: min(length, len(packed) - 1)])
    with pytest.raises(BadInput, match=r"truncated|starts with nothing|cannot be read"):
        read_idx(path, 1)


def test_a_gzip_file_with_a_flipped_bit_or_no_gzip_at_all_is_refused(tmp_path):
    packed = bytearray(gzip.compress(bytes(WHOLE)))
    packed[-6] ^= 1  # in the checksum
    (tmp_path / "flipped.gz").write_bytes(packed)
    (tmp_path / "plain.gz").write_bytes(WHOLE)
    for name in ("flipped.gz", "plain.gz"):
        with pytest.raises(BadInput, match=f"{name}: cannot be read"):
            read_idx(tmp_path / name, 1)
    with pytest.raises(BadInput, match="cannot be read"):
        read_idx(tmp_path / "none", 1)
