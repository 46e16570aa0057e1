"""Batches of attacks and whole cases as Ray tasks, on one machine or many."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from trustml import registry
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.attacked import batches_of, exam_of
from trustml.benchmarks.crew import Order
from trustml.benchmarks.discipline import CASES, MODELS, Bench
from trustml.benchmarks.exams import exam_of as discipline_of
from trustml.benchmarks.judge import judged
from trustml.benchmarks.place import device_of, exact_arithmetic
from trustml.benchmarks.plan import Case, Plan
from trustml.benchmarks.setting import Setting, placed, recorded_module, weights_file
from trustml.contracts import Dataset, Record, Split
from trustml.errors import BadInput, MethodFailed, MissingPackage, TrustError
from trustml.files import write_whole
from trustml.progress import progress
from trustml.recipes import read_recipe

# How often a part is begun again whose worker was lost.
_TRIES = 5
Files = dict[str, bytes]


@contextmanager
def ray_crew(workers: int) -> Iterator["RayCrew"]:
    """Yield a crew on the Ray cluster of RAY_ADDRESS, or on a Ray of this machine.

    Raises:
        MissingPackage: Ray is not installed.
        BadInput: the cluster cannot be reached, or has another version.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPackage("--executor ray needs Ray: pip install 'trustml[ray]'") from error
    address = os.environ.get("RAY_ADDRESS")
    ours = not ray.is_initialized()
    # Inherited settings count: a worker computes with as many threads as this process does.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    own: dict[str, Any] = (
        {} if address else {"num_cpus": workers or os.cpu_count(), "include_dashboard": False}
    )
    try:
        if ours:
            ray.init(
                address=address, log_to_driver=False, logging_level=logging.ERROR,
                runtime_env={"env_vars": threads}, **own,
            )  # fmt: skip
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        where = f"RAY_ADDRESS={address}" if address else "this machine"
        raise BadInput(f"Ray on {where} cannot be used: {said}") from error
    try:
        yield RayCrew(ray, workers)
    finally:
        if ours:
            ray.shutdown()


class RayCrew:
    """Parts of a run in flight: what comes back is written at once, whoever waits for it."""

    def __init__(self, ray: Any, workers: int) -> None:
        self._ray, self._workers = ray, workers
        self._cases: dict[str, set[Any]] = {}
        self._homes: dict[Any, tuple[str, Path]] = {}
        self._records: dict[str, Record] = {}
        self._failed: dict[str, TrustError] = {}
        self._kept: dict[int, Any] = {}

    def send(self, order: Order) -> None:
        """Send a case away: an attack batch by batch, anything else as one."""
        bench = order.bench
        # In the object store once, however many parts read it.
        setting = self._once(bench.setting, lambda: _parcel(bench, order.case.seed))
        work = self._ray.remote(
            num_cpus=1, num_gpus=int(bench.device.type == "cuda"), max_retries=_TRIES
        )
        plan = (bench.plan, order.case)
        if order.case.kind == "attack":
            exam = exam_of(bench.plan, bench.setting, order.case, bench.device)
            _, batches = batches_of(exam, order.case, bench, order.group)
            for rows, file in batches:
                if not file.exists():
                    part = work(_batch).remote(plan, setting, rows)
                    self._note(part, order.case.name, file)
            return
        dataset = self._once(bench.dataset, lambda: bench.dataset)
        part = work(_whole).remote(plan, setting, dataset, order.blank)
        self._note(part, order.case.name, bench.folder)

    def fetch(self, case: str) -> Record | None:
        """Wait for a case's parts, writing whatever comes in between.

        Raises:
            TrustError: one of them failed.
        """
        waiting = self._cases.get(case, set())
        with progress(case, len(waiting)) as advance:
            while waiting:
                done, _ = self._ray.wait(list(self._homes), num_returns=1)
                advance(sum(part in waiting for part in done))
                for part in done:
                    self._take(part)
        if case in self._failed:
            raise self._failed[case]
        return self._records.get(case)

    def _once(self, thing: Any, packed: Callable[[], Any]) -> Any:
        if id(thing) not in self._kept:
            # The thing itself is kept beside its reference, so that its id stays its own.
            self._kept[id(thing)] = (self._ray.put(packed()), thing)
        return self._kept[id(thing)][0]

    def _note(self, part: Any, case: str, home: Path) -> None:
        self._homes[part] = (case, home)
        self._cases.setdefault(case, set()).add(part)

    def _take(self, part: Any) -> None:
        case, home = self._homes.pop(part)
        self._cases[case].discard(part)
        try:
            result = self._ray.get(part)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            self._failed[case] = (
                cause if isinstance(cause, TrustError) else MethodFailed(_said(cause))
            )
            return
        except self._ray.exceptions.RayError as error:
            lost = f"its worker was lost {_TRIES + 1} times ({_said(error)})"
            self._failed[case] = MethodFailed(lost)
            return
        if isinstance(result, bytes):
            write_whole(home, result)
        else:
            record, files = result
            for name, content in files.items():
                write_whole(home / name, content)
            self._records[case] = record


@dataclass(frozen=True, slots=True, eq=False)
class Parcel:
    """A setting on its way: the model as recipe and weights, as a worker may not know its class."""

    recipe: str
    seed: int
    weights: bytes
    weights_hash: str
    split: Split
    data_hash: str
    right: torch.Tensor
    notes: tuple[str, ...]
    blocks: Any


def _parcel(bench: Bench, seed: int) -> Parcel:
    setting = bench.setting
    weights = weights_file(setting.weights_hash, bench.folder / MODELS).read_bytes()
    return Parcel(
        setting.recipe.text, seed, weights, setting.weights_hash, setting.split.to("cpu"),
        setting.data_hash, setting.right.cpu(), setting.notes, setting.blocks,
    )  # fmt: skip


# Models that this worker has unpacked: parts of one model come one after another.
_unpacked: dict[tuple[str, str], Setting] = {}


def _setting(parcel: Parcel, device: torch.device) -> Setting:
    key = (parcel.weights_hash, parcel.data_hash)
    if key not in _unpacked:
        recipe = read_recipe(parcel.recipe)
        with TemporaryDirectory() as scratch:
            write_whole(weights_file(parcel.weights_hash, Path(scratch)), parcel.weights)
            known = (parcel.weights_hash, Path(scratch))
            module = recorded_module(recipe, parcel.split.domain, parcel.seed, known)
        _unpacked[key] = Setting(
            recipe, placed(module, device), parcel.weights_hash, parcel.split, parcel.data_hash,
            parcel.right, parcel.notes, parcel.blocks,
        )  # fmt: skip
    return _unpacked[key]


def _batch(plan: tuple[Plan, Case], parcel: Parcel, rows: torch.Tensor) -> bytes:
    """Return the sample file of one batch."""
    bench_plan, case = plan
    device = _ready(bench_plan)
    setting = _setting(parcel, device)
    exam = exam_of(bench_plan, setting, case, device)
    part, made = judged(exam, setting.split.at(rows))
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "batch.safetensors"
        on_disk.write(part, file, made)
        return file.read_bytes()


def _whole(
    plan: tuple[Plan, Case], parcel: Parcel, dataset: Dataset, blank: Record
) -> tuple[Record, Files]:
    """Return the record of a case, and the files that it leaves in the run's folder."""
    bench_plan, case = plan
    device = _ready(bench_plan)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bench = Bench(bench_plan, dataset, _setting(parcel, device), folder, device, [])
        record = discipline_of(case.kind).examined(case, blank, bench)
        home = folder / CASES / case.name
        files = [path for path in sorted(home.rglob("*")) if path.is_file()]
        return record, {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _ready(plan: Plan) -> torch.device:
    """Make the worker as the driver is: plugins, arithmetic, threads, device.

    Raises:
        BadInput: a plugin's file is not on this worker.
    """
    exact_arithmetic()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    for path in plan.plugins:
        if not Path(path).is_file():
            raise BadInput(
                f"the worker on {os.uname().nodename} has no file {path}: put plugins on storage "
                f"that all machines share, or install them there"
            )
        registry.load_file(path)
    return device_of(plan.device)


def _said(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
