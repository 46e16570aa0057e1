"""The verdict on every sample of a case, on disk: tensors with a digest a sample, written whole."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trustml.benchmarks.layout import SEAL, Layout, end_of, header_of, seal_of
from trustml.contracts import Norm
from trustml.errors import BrokenClaim
from trustml.files import file_hash, write_whole, written_whole

ROBUST, FOOLED, CLEAN_WRONG, CERTIFIED = 0, 1, 2, 3
_SMALL = ("ids", "verdict", "distances", "forwards", "backwards", "digest")
# What reading a header that is none can end in.
_DAMAGE = (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)
_PIECE = 2048  # rows that are read at once where just small columns are wanted
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

    def at(self, rows: Tensor | slice) -> "Samples":
        """Return the given rows."""
        return Samples(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Made:
    """What it took to make samples: the attack's seconds, a GPU's memory, what is to be said."""

    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    peak_mib: float | None = None


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
    tensors = _tensors(samples)
    tensors[SEAL] = torch.zeros(16, dtype=torch.uint8)
    # One entry: safetensors writes several in an order that changes from call to call.
    content = bytearray(save(tensors, metadata={"made": json.dumps(asdict(made))}))
    # The header cannot hold its own digest, so this takes its place among the tensors.
    start = end_of(content) + header_of(content)[SEAL]["data_offsets"][0]
    content[start : start + 16] = seal_of(content)
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
        whole = tensors.pop(SEAL).numpy().tobytes() == seal_of(content)
        facts = json.loads(header_of(content)["__metadata__"]["made"])
        made = Made(float(facts["seconds"]), tuple(facts["notes"]), facts.get("peak_mib"))
        samples = Samples(**tensors)
    except FileNotFoundError as error:
        raise BrokenClaim(f"{path} is missing") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error
    if not whole:
        raise BrokenClaim(f"{path}: its header is not as it was written")
    _check(samples, path, 0)
    return samples, made


def pieces(path: Path, size: int) -> Iterator[Samples]:
    """Yield the samples of a file, `size` at a time, checked as `read` checks them.

    Raises:
        BrokenClaim: the file is missing or cut short, or a sample, named, is not as written.
    """
    try:
        with path.open("rb") as file:
            layout = Layout.of(file)
            for start in range(0, layout.count, size):
                count = min(size, layout.count - start)
                found = Samples(**layout.rows(file, start, count))
                _check(found, path, start)
                yield found
    except FileNotFoundError as error:
        raise BrokenClaim(f"{path} is missing") from error
    except _DAMAGE as error:
        raise BrokenClaim(f"{path} cannot be read: {error}") from error


def verdicts(path: Path) -> Tensor:
    """Return the verdicts (N,) of a file, all of it checked.

    Raises:
        BrokenClaim: the file is missing or cut short, or a sample, named, is not as written.
    """
    found = [piece.verdict for piece in pieces(path, _PIECE)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.uint8)


def gathered(parts: Iterable[Samples], ids: Tensor, path: Path) -> tuple[str, Samples]:
    """Write parts as one file in the order of the ids (N,); return its SHA-256, and the samples.

    The parts come one by one and only one of them is in memory, so that N may be large: of the
    samples that are returned, the inputs are in the file alone, and zeros stand for them.
    """
    order = ids.argsort()
    places, layout = ids[order], None
    found: list[tuple[Tensor, ...]] = []
    with written_whole(path) as file:
        for part in parts:
            if len(part):
                layout = layout or Layout.begun(file, _tensors(part), len(ids))
                rows = order[torch.searchsorted(places, part.ids)]
                layout.put(file, _tensors(part), rows)
                found.append((rows, *(getattr(part, name) for name in _SMALL)))
                shape = part.adversarial.shape[1:]
    rows, *columns = (torch.cat(column) for column in zip(*found, strict=True))
    assert torch.equal(rows.sort().values, torch.arange(len(ids))), "not every sample just once"
    back = rows.argsort()
    small = {name: column[back] for name, column in zip(_SMALL, columns, strict=True)}
    nothing = torch.zeros(1).expand(len(ids), *shape)
    return file_hash(path), Samples(adversarial=nothing, **small)


def _tensors(samples: Samples) -> dict[str, Tensor]:
    return {field.name: getattr(samples, field.name).contiguous() for field in fields(samples)}


def _check(samples: Samples, path: Path, first: int) -> None:
    """See that samples, of which the first has a number in the file, are as they were written.

    Raises:
        BrokenClaim: one is not; it is named.
    """
    parts = tuple(getattr(samples, f.name) for f in fields(samples) if f.name != "digest")
    changed = (_digests(parts) != samples.digest).any(1).nonzero().flatten()
    if len(changed):
        place = int(changed[0])
        raise BrokenClaim(
            f"{path}: sample {first + place} (id {int(samples.ids[place])}) is not as it was "
            f"written"
        )


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
