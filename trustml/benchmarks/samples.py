"""The verdict on every sample of a case, on disk: tensors with a digest a sample, written whole."""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.contracts import Norm
from trustml.errors import BrokenClaim
from trustml.files import write_whole

ROBUST, FOOLED, CLEAN_WRONG, CERTIFIED = 0, 1, 2, 3
SEAL = "seal"
NORMS: tuple[Norm, ...] = ("l0", "l1", "l2", "linf")


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """N samples of a case, in the order of the data.

    Args:
        ids: (N,) int64 sample ids.
        verdict: (N,) uint8: 0 robust, 1 fooled, 2 wrong without any attack, 3 proved to be robust.
        adversarial: (N, *S) the input that fooled the model, or the one that did not.
        distances: (N, 4) float64 of the adversarial from the input in L0, L1, L2, Linf; of a
            threat with a measure of its own (N, 5).
        forwards: (N,) float64 forward passes that the attack took.
        backwards: (N,) float64 backward passes.
        digest: (N, 16) uint8 BLAKE2b over the sample's other entries.
    """

    ids: Tensor
    verdict: Tensor
    adversarial: Tensor
    distances: Tensor
    forwards: Tensor
    backwards: Tensor
    digest: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: Tensor) -> "Samples":
        """Return the given rows."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Made:
    """What it took to make samples: the attack's seconds, and what is to be said of it."""

    seconds: float = 0.0
    notes: tuple[str, ...] = ()


def sealed(
    ids: Tensor,
    verdict: Tensor,
    adversarial: Tensor,
    distances: Tensor,
    passes: tuple[Tensor, Tensor],
) -> Samples:
    """Return the samples with their digests; `passes` are forwards and backwards."""
    given = (ids.long(), verdict.to(torch.uint8), adversarial, distances.double())
    parts = [
        part.detach().cpu().contiguous()
        for part in (*given, passes[0].double(), passes[1].double())
    ]
    return Samples(*[*parts, _digests(parts)])


def joined(parts: Sequence[Samples]) -> Samples:
    """Return all the samples as one."""
    return Samples(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Samples)))


def write(samples: Samples, path: Path, made: Made = Made()) -> str:
    """Write the file whole; return its SHA-256. How the samples were made travels in the header."""
    tensors = {field.name: getattr(samples, field.name).contiguous() for field in fields(samples)}
    tensors[SEAL] = torch.zeros(16, dtype=torch.uint8)
    # One entry: safetensors writes several in an order that changes from call to call.
    content = bytearray(save(tensors, metadata={"made": json.dumps(asdict(made))}))
    # The header cannot hold its own digest, so this takes its place among the tensors.
    start = _end(content) + _header(content)[SEAL]["data_offsets"][0]
    content[start : start + 16] = _seal(content)
    write_whole(path, bytes(content))
    return hashlib.sha256(content).hexdigest()


def read(path: Path) -> tuple[Samples, Made]:
    """Return the samples of a file and how they were made; not one byte of it may have changed.

    Raises:
        BrokenClaim: the file is missing or cut short, or a sample, named, is not as written.
    """
    try:
        content = path.read_bytes()
        tensors = load(content)
        whole = tensors.pop(SEAL).numpy().tobytes() == _seal(content)
        facts = json.loads(_header(content)["__metadata__"]["made"])
        made = Made(float(facts["seconds"]), tuple(facts["notes"]))
        samples = Samples(**tensors)
    except FileNotFoundError as error:
        raise BrokenClaim(f"{path} is missing") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error
    if not whole:
        raise BrokenClaim(f"{path}: its header is not as it was written")
    parts = tuple(getattr(samples, f.name) for f in fields(samples) if f.name != "digest")
    changed = (_digests(parts) != samples.digest).any(1).nonzero().flatten()
    if len(changed):
        place = int(changed[0])
        raise BrokenClaim(
            f"{path}: sample {place} (id {int(samples.ids[place])}) is not as it was written"
        )
    return samples, made


def _end(content: bytes | bytearray) -> int:
    """Return where the header of a safetensors file ends and its tensors begin."""
    return 8 + int(struct.unpack("<Q", content[:8])[0])


def _header(content: bytes | bytearray) -> dict[str, Any]:
    return dict(json.loads(content[8 : _end(content)]))


def _seal(content: bytes | bytearray) -> bytes:
    return hashlib.blake2b(content[: _end(content)], digest_size=16).digest()


def _digests(parts: Sequence[Tensor]) -> Tensor:
    """Return the BLAKE2b (N, 16) of each sample's bytes over all the tensors."""
    count = len(parts[0])
    rows = [
        part.contiguous().reshape(count, -1).view(torch.uint8).numpy() for part in parts if count
    ]
    digests = [
        hashlib.blake2b(b"".join(row[i].tobytes() for row in rows), digest_size=16).digest()
        for i in range(count)
    ]
    return (
        torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(count, 16)
        if count
        else torch.zeros((0, 16), dtype=torch.uint8)
    )
