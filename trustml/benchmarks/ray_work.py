"""What a Ray worker does: it unpacks a model and the data once, and makes shards or whole cases."""

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from trustml import registry
from trustml.benchmarks.crew import ended
from trustml.benchmarks.discipline import Bench, Shard
from trustml.benchmarks.exams import exam_of
from trustml.benchmarks.place import exact_arithmetic, forget_peak, peak_mib, trustml_version
from trustml.benchmarks.plan import Case, Plan
from trustml.benchmarks.setting import Setting, examined, placed, recorded_module, weights_file
from trustml.contracts import Dataset, Record, Split
from trustml.errors import (
    BadInput,
    BrokenClaim,
    DiskFull,
    MethodFailed,
    NotApplicable,
    TrustError,
    UsageError,
)
from trustml.files import write_whole
from trustml.recipes import read_recipe

# What a part leaves in the run's folder: path below it → content.
Files = dict[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What every part of a run needs to know.

    Args:
        token: of the run; a worker may see several.
        plugins: path → content of the plan's plugin files.
        device: kind of device, as it is here.
        threads: that this process computes with.
        versions: of what decides the bits of an answer.
    """

    token: str
    plan: Plan
    plugins: Mapping[str, bytes]
    device: str
    threads: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A setting on its way: the model as recipe and weights, as a worker may not know its class."""

    recipe: str
    seed: int
    weights: bytes
    weights_hash: str
    data_hash: str
    right: np.ndarray[Any, Any]
    notes: tuple[str, ...]
    blocks: Any


@dataclass(slots=True, eq=False)
class _Home:
    """What a worker keeps from one part to the next, of one model."""

    of: tuple[str, str, int]
    setting: Setting
    datasets: dict[bool, Dataset]
    memory: dict[str, Any] = field(default_factory=dict)
    files: Files = field(default_factory=dict)


_home: list[_Home] = []
# Plugin files that this worker did not have; the folder goes with the process.
_plugins: list[TemporaryDirectory[str]] = []


def versions() -> dict[str, str]:
    """Return the versions of what decides the bits of an answer."""
    return {"trustml": trustml_version(), "torch": torch.__version__}


def packed(dataset: Dataset) -> Dataset:
    """Return the dataset with arrays for tensors: workers of one machine share their memory."""
    return _turned(dataset, _array)


def unpacked(dataset: Dataset, *, own: bool) -> Dataset:
    """Return the dataset of `packed` with tensors again: its own, or shared ones to be read only.

    Args:
        dataset: as `packed` made it.
        own: whether whoever has it may write to it.
    """

    def tensor(array: Any) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it is not to be written to
            return torch.from_numpy(array.copy() if own else array)

    return _turned(dataset, tensor)


def make_shard(job: Job, parcel: Parcel, data: Dataset, case: Case, shard: Shard) -> Files:
    """Return the files of a shard.

    Raises:
        TrustError: it failed, or this worker is not fit for it.
    """
    exam = exam_of(case.kind)
    home = _ready(job, parcel, data)
    with TemporaryDirectory() as scratch:
        own = exam.apart(job.plan, case) == "all"
        bench = _bench(job, home, data, Path(scratch), own)
        # What fails of a case that is made away, too, it says itself, and in its own order.
        with suppress(*(() if not own else (NotApplicable, MethodFailed))):
            exam.made(case, bench, shard)
        return _left(home, bench.folder)


def make_case(
    job: Job,
    parcel: Parcel,
    data: Dataset,
    asked: tuple[Case, Record, Sequence[Record]],
    given: Files,
    *shards: Files,
) -> tuple[Record, Files]:
    """Return the record of a case, and the files that it leaves in the run's folder.

    Args:
        job: the run.
        parcel: the model.
        data: as `packed` made them.
        asked: the case, its blank record, the records that it reads.
        given: files of the run that it reads.
        shards: its own, made before.

    Raises:
        UsageError: this worker is not fit for it.
        DiskFull: there is no room.
        BrokenClaim: a file of the run is damaged.
    """
    case, blank, after = asked
    home = _ready(job, parcel, data)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for files in (given, *shards):
            _lay(files, folder)
        bench = replace(_bench(job, home, data, folder, True), group=after)
        before = {path for path in folder.rglob("*") if path.is_file()}
        forget_peak(bench.device)
        try:
            record = exam_of(case.kind).examined(case, blank, bench)
            most = record.cost.peak_mib or peak_mib(bench.device)
            record = replace(record, cost=replace(record.cost, peak_mib=most))
        except (UsageError, DiskFull, BrokenClaim):
            raise
        except TrustError as error:
            record = ended(blank, error)
        return record, _left(home, folder, before)


def _bench(job: Job, home: _Home, data: Dataset, folder: Path, own: bool) -> Bench:
    if own not in home.datasets:
        home.datasets[own] = unpacked(data, own=own)
    _lay(home.files, folder)
    dataset, device = home.datasets[own], torch.device(job.device)
    return Bench(job.plan, dataset, home.setting, folder, device, [], home.memory)


def _lay(files: Files, folder: Path) -> None:
    for name, content in files.items():
        write_whole(folder / name, content)


def _left(home: _Home, folder: Path, before: set[Path] | None = None) -> Files:
    """Return the files that a part has made; models among them are kept for the parts to come."""
    made = {path for path in folder.rglob("*") if path.is_file()}
    made -= before or {folder / name for name in home.files}
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(made)}
    home.files |= {name: content for name, content in found.items() if name.startswith("models/")}
    return found


def _ready(job: Job, parcel: Parcel, data: Dataset) -> _Home:
    """Make the worker as the driver is: versions, plugins, arithmetic, threads, device, model.

    Raises:
        BadInput: it cannot be.
    """
    exact_arithmetic(job.plan.deterministic)
    torch.set_num_threads(job.threads)
    of = (job.token, parcel.recipe, parcel.seed)
    if _home and _home[0].of == of:
        return _home[0]
    node = os.uname().nodename
    for name, theirs in versions().items():
        if theirs != job.versions[name]:
            raise BadInput(
                f"the worker on {node} has {name} {theirs}, this process {job.versions[name]}: "
                f"install the same version on every machine"
            )
    device = _device(job.device, node)
    try:
        for path, content in job.plugins.items():
            _load(path, content)
        dataset = unpacked(data, own=False)
        setting = _setting(job, parcel, examined(job.plan, dataset.test), device)
    except UsageError as error:
        raise BadInput(
            f"on the worker {node}: {error}; files that models or plugins read must lie where all "
            f"machines see them"
        ) from error
    # One model at a time: parts of one come one after another.
    _home[:] = [_Home(of, setting, {False: dataset})]
    return _home[0]


def _device(kind: str, node: str) -> torch.device:
    """Return the device; Ray has hidden those GPUs that are not this worker's.

    Raises:
        BadInput: there is none.
    """
    if kind == "cuda" and not torch.cuda.is_available():
        raise BadInput(
            f"the worker on {node} was to have a GPU, and torch sees none there: install a torch "
            f"with CUDA on it, or leave --device cuda out"
        )
    return torch.device(kind)


def _load(path: str, content: bytes) -> None:
    """Load a plugin file: the worker's own if it is the same, else the one that came along."""
    here = Path(path)
    if not (here.is_file() and here.read_bytes() == content):
        if not _plugins:
            _plugins.append(TemporaryDirectory(prefix="trustml-plugins-"))
        # By path and content: two plugins may have one name.
        digest = hashlib.sha256(path.encode() + content).hexdigest()[:16]
        here = Path(_plugins[0].name, digest, here.name)
        if not here.exists():
            write_whole(here, content)
    registry.load_file(str(here))


def _setting(job: Job, parcel: Parcel, split: Split, device: torch.device) -> Setting:
    recipe = read_recipe(parcel.recipe)
    with TemporaryDirectory() as scratch:
        write_whole(weights_file(parcel.weights_hash, Path(scratch)), parcel.weights)
        known = (parcel.weights_hash, Path(scratch))
        module = recorded_module(recipe, split.domain, parcel.seed, known)
    return Setting(
        recipe, placed(module, device), parcel.weights_hash, split, parcel.data_hash,
        torch.from_numpy(parcel.right.copy()), parcel.notes, parcel.blocks,
    )  # fmt: skip


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().contiguous().numpy()


def _turned(dataset: Dataset, way: Callable[[Any], Any]) -> Dataset:
    """Return the dataset with something else for each tensor."""

    def turned(split: Split) -> Split:
        return replace(split, x=way(split.x), y=way(split.y), ids=way(split.ids))

    return replace(
        dataset,
        train=turned(dataset.train),
        validation=turned(dataset.validation),
        test=turned(dataset.test),
        outside={name: turned(split) for name, split in dataset.outside.items()},
    )
