"""Sample files: what was written comes back, and not one byte may change unnoticed."""

import random
from pathlib import Path

import pytest
import torch

from trustml.benchmarks.layout import end_of, header_of
from trustml.benchmarks.samples import (
    Made,
    Samples,
    gathered,
    joined,
    pieces,
    read,
    sealed,
    verdicts,
    write,
)
from trustml.errors import BrokenClaim
from trustml.files import file_hash


@pytest.fixture
def samples() -> Samples:
    """Seven samples of shape (2, 3) with random content."""
    return sealed(
        torch.arange(7) + 500,
        torch.randint(0, 3, (7,)),
        torch.rand(7, 2, 3),
        torch.rand(7, 4),
        (torch.rand(7), torch.rand(7)),
    )


def _same(one: Samples, other: Samples) -> bool:
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in Samples.__slots__)


def test_what_is_written_comes_back(samples: Samples, tmp_path: Path) -> None:
    made = Made(1.25, ("a “note”", "another"))
    digest = write(samples, tmp_path / "a", made)
    again, how = read(tmp_path / "a")
    assert _same(samples, again)
    assert how == made
    assert digest == file_hash(tmp_path / "a")


def test_equal_samples_are_equal_files(samples: Samples, tmp_path: Path) -> None:
    """A record holds the file's hash, and a resumed run must end with the same records."""
    made = Made(1.0, ("a", "b"))
    assert len({write(samples, tmp_path / "a", made) for _ in range(20)}) == 1


def test_no_samples_are_samples_too(samples: Samples, tmp_path: Path) -> None:
    """Nothing was attacked where the model reads nothing rightly."""
    write(samples.at(torch.arange(0)), tmp_path / "a")
    assert len(read(tmp_path / "a")[0]) == 0


def test_parts_joined_are_the_whole(samples: Samples) -> None:
    """The digest belongs to the sample, not to its batch."""
    halves = [samples.at(torch.arange(3)), samples.at(torch.arange(3, 7))]
    assert _same(joined(halves), samples)


def test_every_changed_byte_is_seen_and_its_sample_named(samples: Samples, tmp_path: Path) -> None:
    """300 random bytes, each turned into a random other: where in the file tells what to expect."""
    path, chance = tmp_path / "a", random.Random(0)
    write(samples, path, Made(1.0, ("note",)))
    whole = path.read_bytes()
    header, end = header_of(whole), end_of(whole)
    owners: dict[int, int] = {}
    for name in Samples.__slots__:
        first, last = header[name]["data_offsets"]
        size = (last - first) // 7
        owners |= {end + byte: (byte - first) // size for byte in range(first, last)}
    for byte in [*chance.sample(range(len(whole)), 250), *chance.sample(range(end), 50)]:
        changed = bytearray(whole)
        changed[byte] ^= chance.randrange(1, 256)
        path.write_bytes(changed)
        with pytest.raises(BrokenClaim) as caught:
            read(path)
        if byte in owners:
            assert f"sample {owners[byte]} (id " in str(caught.value), byte
        else:
            assert "header" in str(caught.value) or "cannot be read" in str(caught.value)


def test_every_cut_is_seen(samples: Samples, tmp_path: Path) -> None:
    write(samples, tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    for content in (b"", whole[:5], whole[:200], whole[:-1], whole + b"\0"):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(BrokenClaim, match="cannot be read"):
            read(tmp_path / "a")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenClaim, match="nowhere is missing"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("order", [list(range(7)), [6, 5, 4, 3, 2, 1, 0], [3, 0, 6, 1, 5, 2, 4]])
def test_parts_make_the_file_that_all_of_them_at_once_make(
    tmp_path: Path, samples: Samples, order: list[int]
) -> None:
    """Byte for byte, whatever the parts and their order: the hash in a record is the same."""
    whole = write(samples, tmp_path / "whole")
    rows = torch.tensor(order)
    parts = (samples.at(part) for part in (rows[:3], rows[3:3], rows[3:4], rows[4:]))
    digest, found = gathered(parts, samples.ids, tmp_path / "parts")
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert digest == whole == file_hash(tmp_path / "parts")
    for name in ("ids", "verdict", "distances", "forwards", "backwards", "digest"):
        assert torch.equal(getattr(found, name), getattr(samples, name))
    assert found.adversarial.shape == samples.adversarial.shape
    assert found.adversarial.untyped_storage().nbytes() == 4, "the inputs are on the disk alone"


def test_parts_must_be_all_of_them(tmp_path: Path, samples: Samples) -> None:
    """Half of a file would be zeros; a sample twice would hide another."""
    for parts in ([slice(0, 6)], [slice(0, 7), slice(0, 1)]):
        with pytest.raises(AssertionError, match="every sample"):
            gathered((samples.at(part) for part in parts), samples.ids, tmp_path / "file")


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_pieces_are_the_samples_in_order(tmp_path: Path, samples: Samples, size: int) -> None:
    write(samples, tmp_path / "file")
    found = joined(list(pieces(tmp_path / "file", size)))
    for name in ("ids", "verdict", "adversarial", "distances", "forwards", "backwards", "digest"):
        assert torch.equal(getattr(found, name), getattr(samples, name))
    assert torch.equal(verdicts(tmp_path / "file"), samples.verdict)


def test_a_changed_byte_is_found_piece_by_piece(tmp_path: Path, samples: Samples) -> None:
    """Any byte of the file, header and all; a change is never read over."""
    path = tmp_path / "file"
    write(samples, path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(BrokenClaim):
            list(pieces(path, 3))
    for cut in (0, 7, 8, end_of(whole) - 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(BrokenClaim, match=r"cut short|cannot be read"):
            list(pieces(path, 3))
    with pytest.raises(BrokenClaim, match="missing"):
        list(pieces(tmp_path / "nothing", 3))
