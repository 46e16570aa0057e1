"""Shards and whole cases as Ray tasks, on one machine or many; what comes back is the run's."""

import json
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from trustml.benchmarks.crew import Order
from trustml.benchmarks.discipline import CASES, MODELS, SAMPLES, Bench
from trustml.benchmarks.exams import exam_of
from trustml.benchmarks.outside import names as outside_names
from trustml.benchmarks.plan import Case
from trustml.benchmarks.ray_head import connected
from trustml.benchmarks.ray_work import Files, Job, Parcel, make_case, make_shard, packed, versions
from trustml.benchmarks.setting import weights_file
from trustml.benchmarks.stolen import is_thief
from trustml.contracts import Record
from trustml.errors import BadInput, MethodFailed, TrustError
from trustml.files import write_whole
from trustml.partners import partner
from trustml.progress import progress

# How often a part is begun again whose worker was lost.
_TRIES = 5
# Parts in flight for each worker: the next ones wait there, the others here.
_AHEAD = 4


@contextmanager
def ray_crew(workers: int, device: str) -> Iterator["RayCrew"]:
    """Yield a crew on the Ray cluster of RAY_ADDRESS, or on a Ray of this machine.

    Raises:
        MissingPackage: Ray is not installed.
        BadOption: a number of workers for a cluster, which has its own.
        BadInput: the cluster cannot be reached, has another version, or no GPU where one is wanted.
    """
    with connected(workers, device) as ray:
        hired = RayCrew(ray, device)
        try:
            yield hired
        finally:
            hired.dismiss()


@dataclass(slots=True, eq=False)
class _Part:
    """A shard or the rest of a case; `begin` makes it a task, whose reference is kept."""

    home: Path
    begin: Callable[[], Any]
    cases: list[str] = field(default_factory=list)
    reference: Any = None
    done: bool = False


@dataclass(slots=True, eq=False)
class _Sent:
    """What the object store holds for a model: its setting, and shards that several cases share."""

    of: Any
    parcel: Any
    shards: dict[str, _Part] = field(default_factory=dict)


class RayCrew:
    """Parts of a run in flight: what comes back is written at once, whoever waits for it."""

    def __init__(self, ray: Any, device: str) -> None:
        """Begin with nothing in flight.

        Raises:
            BadInput: a GPU is wanted, and the cluster has none.
        """
        self._ray, self._device = ray, device
        self._waiting: deque[_Part] = deque()
        self._flying: dict[Any, _Part] = {}
        self._parts: dict[str, list[_Part]] = {}
        self._records: dict[str, Record] = {}
        self._failed: dict[str, TrustError] = {}
        self._run: tuple[Any, Any, Any] | None = None
        self._sent: _Sent | None = None
        self._options = {**_wanted(ray, device), "max_retries": _TRIES}
        self._slots = self._count()

    def send(self, order: Order) -> None:
        """Send a case away: its shards, and what is left of it where that can be done away too.

        Raises:
            TrustError: what the case's shards are cannot be told; it then says so itself.
        """
        case, bench = order.case, order.bench
        exam = exam_of(case.kind)
        whole = exam.apart(bench.plan, case) == "all"
        shards = exam.shards(case, bench)
        job, data = self._put_run(bench)
        sent = self._put_model(bench, case)
        given: Files = {}
        own: list[_Part] = []
        for shard in shards:
            if (bench.folder / shard.file).exists():
                given |= _along(bench.folder, shard.file) if whole else {}
                continue
            part = sent.shards.get(shard.file)
            if part is None:
                begin = self._task(make_shard, job, sent.parcel, data, case, shard)
                part = self._queued(bench.folder, begin)
                if whole:
                    sent.shards[shard.file] = part
            own.append(part)
        if whole:
            asked = (case, order.blank, tuple(order.after))
            rest = (job, sent.parcel, data, asked, given | _files_of(order))
            # Its shards are begun before it: Ray lets it wait for them.
            needed = tuple(own)
            own.append(
                self._queued(
                    bench.folder,
                    lambda: self._task(make_case, *rest, *(part.reference for part in needed))(),
                )
            )
        for part in own:
            part.cases.append(case.name)
        self._parts[case.name] = own
        self._fly()

    def fetch(self, case: str) -> Record | None:
        """Wait for a case's parts, writing whatever comes in between.

        Raises:
            TrustError: one of them failed.
        """
        parts = self._parts.pop(case, [])
        if parts:
            self._slots = self._count()
        with progress(case, len(parts)) as advance:
            known = 0
            while left := [part for part in parts if not part.done]:
                advance(len(parts) - len(left) - known)
                known = len(parts) - len(left)
                self._fly()
                flying = list(self._flying)
                self._ray.wait(flying, num_returns=1)
                ready, _ = self._ray.wait(flying, num_returns=len(flying), timeout=0)
                for reference in ready:
                    self._take(reference)
            advance(len(parts) - known)
        self._fly()
        if case in self._failed:
            raise self._failed.pop(case)
        return self._records.pop(case, None)

    def dismiss(self) -> None:
        """Stop what is in flight."""
        self._waiting.clear()
        for reference in self._flying:
            with suppress(Exception):
                self._ray.cancel(reference, force=True)

    def _count(self) -> int:
        """Return how many parts the cluster can do at once.

        Raises:
            BadInput: a GPU is wanted, and it has none.
        """
        there = self._ray.cluster_resources()
        if self._device == "cuda":
            if there.get("GPU", 0) < 1:
                raise BadInput(
                    "--device cuda: no machine of this Ray has a GPU; start a worker with one "
                    "(ray start --num-gpus …), or leave --device cuda out"
                )
            return int(there["GPU"])
        return max(1, int(there.get("CPU", 1)) // int(self._options["num_cpus"]))

    def _fly(self) -> None:
        """Begin as many parts as the workers have hands for, and some more."""
        while self._waiting and len(self._flying) < _AHEAD * self._slots:
            part = self._waiting.popleft()
            part.reference = part.begin()
            self._flying[part.reference] = part

    def _queued(self, home: Path, begin: Callable[[], Any]) -> _Part:
        self._waiting.append(_Part(home, begin))
        return self._waiting[-1]

    def _task(self, work: Callable[..., Any], *given: Any) -> Callable[[], Any]:
        return lambda: self._ray.remote(**self._options)(work).remote(*given)

    def _put_run(self, bench: Bench) -> tuple[Any, Any]:
        """Return references to the job and the data, put into the object store once a run."""
        if self._run is None or self._run[0] is not bench.dataset:
            plan = bench.plan
            wanted = outside_names(plan, bench.dataset) if plan.detectors else ()
            # Sets from outside travel too: a worker may not have their files.
            outside = {
                name: partner(bench.dataset, name, plan.data_dir)
                for name in wanted
                if not is_thief(name)
            }
            plugins = {path: Path(path).read_bytes() for path in plan.plugins}
            job = Job(
                uuid.uuid4().hex, plan, plugins, self._device, torch.get_num_threads(), versions()
            )
            data = packed(replace(bench.dataset, outside=outside))
            self._run = (bench.dataset, self._ray.put(job), self._ray.put(data))
        return self._run[1], self._run[2]

    def _put_model(self, bench: Bench, case: Case) -> _Sent:
        """Return the reference to the setting, put into the object store once a model."""
        if self._sent is None or self._sent.of is not bench.setting:
            self._sent = _Sent(bench.setting, self._ray.put(_parcel(bench, case.seed)))
        return self._sent

    def _take(self, reference: Any) -> None:
        part = self._flying.pop(reference)
        part.done = True
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            failure = _failure(self._ray, error)
            # The first to fail has the say: what depends on it fails for its sake.
            for case in part.cases:
                self._failed.setdefault(case, failure)
            return
        record, files = result if isinstance(result, tuple) else (None, result)
        for name, content in files.items():
            write_whole(part.home / name, content)
        if record is not None:
            self._records[record.case] = record


def _wanted(ray: Any, device: str) -> dict[str, int]:
    """Return what each part asks of Ray: a GPU and a core to feed it, or a core a thread."""
    if device == "cuda":
        return {"num_cpus": 1, "num_gpus": 1}
    # A Ray of this machine was told how many workers there are to be: one core each.
    threads = torch.get_num_threads() if os.environ.get("RAY_ADDRESS") else 1
    most = max((node["Resources"].get("CPU", 0) for node in ray.nodes()), default=1)
    return {"num_cpus": max(1, min(threads, int(most))), "num_gpus": 0}


def _parcel(bench: Bench, seed: int) -> Parcel:
    setting = bench.setting
    weights = weights_file(setting.weights_hash, bench.folder / MODELS).read_bytes()
    return Parcel(
        setting.recipe.text, seed, weights, setting.weights_hash, setting.data_hash,
        setting.right.cpu().numpy(), setting.notes, setting.blocks,
    )  # fmt: skip


def _along(folder: Path, name: str) -> Files:
    """Return a file of the run that a shard has left before, with the weights that it names."""
    found = {name: (folder / name).read_bytes()}
    if name.endswith(".json"):
        weights = weights_file(json.loads(found[name])["weights"], (folder / name).parent)
        found[weights.relative_to(folder).as_posix()] = weights.read_bytes()
    return found


def _files_of(order: Order) -> Files:
    """Return the sample files of the cases that a case reads."""
    names = [f"{CASES}/{record.case}/{SAMPLES}" for record in order.after if record.samples]
    return {name: (order.bench.folder / name).read_bytes() for name in names}


def _failure(ray: Any, error: Exception) -> TrustError:
    """Return what a part's failure is to its case, or to the run."""
    if not isinstance(error, ray.exceptions.RayTaskError):
        return MethodFailed(f"its worker was lost {_TRIES + 1} times ({_said(error)})")
    cause = error.cause
    if isinstance(cause, TrustError):
        return cause
    if isinstance(cause, ModuleNotFoundError) and str(cause.name).startswith("trustml"):
        return BadInput(f"a Ray worker has no trustml ({cause}): install it on every machine")
    return MethodFailed(_said(cause))


def _said(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
