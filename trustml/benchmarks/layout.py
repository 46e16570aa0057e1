"""Where the tensors of a sealed safetensors file lie, so that rows are read and written one by one.

The file is what `safetensors` itself would write of all rows at once, and one tensor in it, the
seal, is the digest of its header.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, BinaryIO

import torch
from safetensors.torch import save
from torch import Tensor

SEAL = "seal"
_TYPES = {"F64": torch.float64, "F32": torch.float32, "I64": torch.int64, "U8": torch.uint8}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file of tensors (count, …) is laid out.

    Args:
        count: of rows.
        columns: name → where its first row lies in the file, its type, the shape of a row.
    """

    count: int
    columns: Mapping[str, tuple[int, torch.dtype, tuple[int, ...]]]

    @classmethod
    def of(cls, file: BinaryIO) -> "Layout":
        """Return the layout of a file whose header is as it was written.

        Raises:
            ValueError: it is not, or the file is cut short.
        """
        length = file.seek(0, 2)
        file.seek(0)
        head = file.read(8)
        end = end_of(head) if len(head) == 8 else length + 1
        if end > length:
            raise ValueError("it is cut short")
        head += file.read(end - 8)
        facts = header_of(head)
        size = end + max(int(fact["data_offsets"][1]) for name, fact in _tensors(facts))
        if length != size:
            raise ValueError("it is cut short")
        file.seek(end + facts[SEAL]["data_offsets"][0])
        if file.read(16) != seal_of(head):
            raise ValueError("its header is not as it was written")
        return cls._read(facts, end)

    @classmethod
    def begun(cls, file: BinaryIO, like: Mapping[str, Tensor], count: int) -> "Layout":
        """Write header and seal of a file of so many rows like those given; return its layout."""
        one = {name: tensor[:1].contiguous() for name, tensor in like.items()}
        one[SEAL] = torch.zeros(16, dtype=torch.uint8)
        # What safetensors says of one row, in its order, with the sizes of all of them.
        facts, start = header_of(save(one, metadata={"made": MADE_OF_PARTS})), 0
        for name, fact in _tensors(facts):
            if name != SEAL:
                fact["shape"][0] = count
            size = _TYPES[fact["dtype"]].itemsize * prod(fact["shape"])
            fact["data_offsets"], start = [start, start + size], start + size
        text = json.dumps(facts, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        head = struct.pack("<Q", len(text)) + text
        file.write(head)
        file.seek(len(head) + facts[SEAL]["data_offsets"][0])
        file.write(seal_of(head))
        return cls._read(facts, len(head))

    @classmethod
    def _read(cls, facts: Mapping[str, Any], end: int) -> "Layout":
        columns = {
            name: (end + fact["data_offsets"][0], _TYPES[fact["dtype"]], tuple(fact["shape"][1:]))
            for name, fact in _tensors(facts)
            if name != SEAL
        }
        return cls(min(facts[name]["shape"][0] for name in columns), columns)

    def rows(self, file: BinaryIO, start: int, count: int) -> dict[str, Tensor]:
        """Return so many rows of every column."""
        found = {}
        for name, (where, dtype, shape) in self.columns.items():
            size = dtype.itemsize * prod(shape)
            file.seek(where + start * size)
            content = bytearray(file.read(count * size))
            found[name] = torch.frombuffer(content, dtype=dtype).view(count, *shape)
        return found

    def put(self, file: BinaryIO, tensors: Mapping[str, Tensor], rows: Tensor) -> None:
        """Write the rows of tensors to the given places, neighbours together."""
        cuts = [0, *((rows.diff() != 1).nonzero().flatten() + 1).tolist(), len(rows)]
        for name, (where, dtype, shape) in self.columns.items():
            size, content = dtype.itemsize * prod(shape), tensors[name].numpy()
            for begin, end in pairwise(cuts):
                file.seek(where + int(rows[begin]) * size)
                file.write(content[begin:end].data)


# How a file that is put together from parts says that it was made.
MADE_OF_PARTS = json.dumps({"seconds": 0.0, "notes": [], "peak_mib": None})


def end_of(content: bytes | bytearray) -> int:
    """Return where the header of a safetensors file ends and its tensors begin."""
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def header_of(content: bytes | bytearray) -> dict[str, Any]:
    """Return what the header of a safetensors file says."""
    return dict(json.loads(content[8 : end_of(content)]))


def seal_of(content: bytes | bytearray) -> bytes:
    """Return the digest (16 bytes) of the header of a safetensors file."""
    return hashlib.blake2b(content[: end_of(content)], digest_size=16).digest()


def _tensors(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, fact) for name, fact in facts.items() if name != "__metadata__"]
