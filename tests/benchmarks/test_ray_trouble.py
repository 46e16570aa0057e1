"""Ray where something is wrong: one clear line each, nothing lost; what is sent, and how often."""

import builtins
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trustml import registry
from trustml.benchmarks import harness, ray_head, ray_work
from trustml.benchmarks.crew import crew
from trustml.benchmarks.discipline import Shard
from trustml.benchmarks.plan import PLAN, Plan
from trustml.benchmarks.ray_crew import RayCrew
from trustml.benchmarks.ray_work import Job, Parcel, make_shard, packed, unpacked, versions
from trustml.contracts import Record
from trustml.errors import BadInput, BadOption, MethodFailed, MissingPackage

ray = pytest.importorskip("ray", reason="needs Ray (extra: ray)")


class Here:
    """Ray's face with nothing behind it: parts are done at once, in this process, and counted."""

    exceptions = ray.exceptions

    def __init__(self, **there: float) -> None:
        self.there = there or {"CPU": 2.0}
        self.put_: list[Any] = []
        self.asked: list[dict[str, Any]] = []
        self.given: list[tuple[Any, ...]] = []
        self.results: dict[str, Any] = {}

    def put(self, thing: Any) -> str:
        self.put_.append(thing)
        return self._kept(thing)

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        self.asked.append(options)

        def decorated(work: Callable[..., Any]) -> Any:
            return type("Remote", (), {"remote": lambda _, *given: self._run(work, given)})()

        return decorated

    def _run(self, work: Callable[..., Any], given: tuple[Any, ...]) -> str:
        self.given.append(given)
        plain = [self.results[g] if isinstance(g, str) else g for g in given]
        return self._kept(work(*plain))

    def _kept(self, thing: Any) -> str:
        name = f"reference {len(self.results)}"
        self.results[name] = thing
        return name

    def wait(self, refs: list[str], **_: Any) -> tuple[list[str], list[str]]:
        return refs, []

    def get(self, ref: str) -> Any:
        return self.results[ref]

    def cancel(self, *_: Any, **__: Any) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return self.there

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Resources": self.there}]


@pytest.fixture(autouse=True)
def _no_home() -> Iterator[None]:
    """Forget what a worker in this process has unpacked."""
    ray_work._home.clear()
    yield
    ray_work._home.clear()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """A harness whose crew is `Here`."""
    stand_in = Here()

    def hired(workers: int, device: str) -> Any:
        from contextlib import nullcontext

        return nullcontext(RayCrew(stand_in, device))

    monkeypatch.setattr("trustml.benchmarks.ray_crew.ray_crew", hired)
    return stand_in


def test_weights_and_data_are_put_once(here: Here, plan: Plan, tmp_path: Path) -> None:
    """Two models, two attacks, batches of three: one job, one set of data, one parcel a model."""
    plan = replace(plan, models=("largest", "logistic:epochs=1"), attacks=("aim", "fgsm"))
    plan = replace(plan, batch_size=3)
    records = list(harness.start(plan, tmp_path / "run", "ray"))
    assert {record.status for record in records} <= {"done", "skipped"}
    kinds = [type(thing).__name__ for thing in here.put_]
    assert sorted(kinds) == ["Dataset", "Job", "Parcel", "Parcel"]
    assert len(here.given) > 8, "many parts were sent"
    for given in here.given:
        assert all(isinstance(part, str) for part in given[:3]), "by reference, not by value"
        assert not any(isinstance(part, torch.Tensor) and part.numel() > 3 for part in given)
    local = list(harness.start(plan, tmp_path / "here"))
    for one, other in zip(records, local, strict=True):
        assert (one.scores, one.samples, one.notes) == (other.scores, other.samples, other.notes)


def test_arrays_are_shared_and_what_is_written_to_is_not(toys: Any) -> None:
    """A batch of an attack is cut out of memory that all workers see; a whole case has its own."""
    dataset = registry.get("data", "toy").function(folder=None)
    data = packed(dataset)
    shared, own = unpacked(data, own=False), unpacked(data, own=True)
    assert shared.test.x.data_ptr() == data.test.x.ctypes.data  # type: ignore[attr-defined]
    assert own.test.x.data_ptr() != shared.test.x.data_ptr()
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(own, part).x, getattr(dataset, part).x)
        assert torch.equal(getattr(own, part).ids, getattr(dataset, part).ids)


def test_a_part_asks_for_one_gpu() -> None:
    """On a plan of cuda; on any other for none, and for a core."""
    crew_ = RayCrew(Here(CPU=8.0, GPU=4.0), "cuda")
    assert crew_._options["num_gpus"] == 1
    assert crew_._slots == 4, "as many parts at once as there are GPUs"
    crew_ = RayCrew(Here(CPU=8.0, GPU=4.0), "cpu")
    assert (crew_._options["num_gpus"], crew_._options["num_cpus"]) == (0, 1)
    assert crew_._slots == 8


def test_a_cluster_s_part_asks_for_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no two of them share a core; never for more than the largest machine has."""
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert RayCrew(Here(CPU=8.0), "cpu")._options["num_cpus"] == 4
    assert RayCrew(Here(CPU=8.0), "cpu")._slots == 2
    assert RayCrew(Here(CPU=2.0), "cpu")._options["num_cpus"] == 2


def test_a_cluster_without_a_gpu_is_told_before_anything_waits_for_one() -> None:
    with pytest.raises(BadInput, match="no machine of this Ray has a GPU"):
        RayCrew(Here(CPU=8.0), "cuda")


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *given: Any, **options: Any) -> Any:
        if name == "ray":
            raise ModuleNotFoundError("No module named 'ray'")
        return found(name, *given, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingPackage, match=r"pip install 'trustml\[ray\]'"), crew("ray", 1):
        pass


def test_a_head_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not after the minute that Ray itself would wait."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"  # bound, and nobody listens
        monkeypatch.setenv("RAY_ADDRESS", address)
        began = time.monotonic()
        with pytest.raises(BadInput, match=f"RAY_ADDRESS={address} cannot be used: .*refused"):
            crew("ray", 0).__enter__()
        assert time.monotonic() - began < 20


def test_workers_of_a_cluster_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")
    with pytest.raises(BadOption, match="leave --workers out"):
        crew("ray", 3).__enter__()


def test_a_worker_of_other_versions(toys: Any, plan: Plan) -> None:
    """Its answers could have other bits; the line names both, and the machine."""
    job = Job("one", plan, {}, "cpu", 1, {**versions(), "torch": "0.4.1"})
    with pytest.raises(BadInput, match=rf"worker on {_node()} has torch .*, this process 0\.4\.1"):
        make_shard(job, *_sent(plan))


def test_a_worker_without_a_gpu(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadInput, match=f"worker on {_node()} was to have a GPU"):
        make_shard(Job("one", plan, {}, "cuda", 1, versions()), *_sent(plan))


def test_a_worker_without_the_plugin_file_gets_it(plan: Plan, tmp_path: Path) -> None:
    """The file travels with the run; one that lies there with other content is not believed."""
    plugin = tmp_path / "far" / "lone.py"
    content = (
        '"""A plugin."""\nfrom trustml.contracts import Access\n'
        "from trustml.registry import attack\n\n\n"
        '@attack(source="a test", needs=Access.LABELS, norms=("linf",))\n'
        'def lone(model, x, y, threat, /, *, random):\n    """Stay."""\n    return x\n'
    )
    ray_work._load(str(plugin), content.encode())
    assert registry.get("attack", "lone").name == "lone"
    del registry._plugins["attack", "lone"]
    plugin.parent.mkdir()
    plugin.write_text("raise ValueError('another file of that name')")
    second = content.replace("lone(", "other(").encode()
    ray_work._load(str(plugin), second)
    assert registry.get("attack", "other").name == "other"


def test_a_model_file_that_a_worker_lacks_is_named(plan: Plan) -> None:
    job = Job("one", plan, {}, "cpu", 1, versions())
    _, data, case, shard = _sent(plan)
    lost = Parcel("onnx:path=/nowhere/model.onnx", 0, b"", "", "", torch.ones(1).numpy(), (), None)
    with pytest.raises(BadInput, match=f"on the worker {_node()}: .*nowhere/model.onnx.*all"):
        make_shard(job, lost, data, case, shard)


def test_what_ray_says_of_a_lost_worker_fails_the_case_alone() -> None:
    from trustml.benchmarks.ray_crew import _failure

    lost = _failure(ray, ray.exceptions.WorkerCrashedError())
    assert isinstance(lost, MethodFailed)
    assert "its worker was lost 6 times" in str(lost)
    gone = ModuleNotFoundError("No module named 'trustml'", name="trustml")
    said = ray.exceptions.RayTaskError("make_shard", "traceback", gone)
    assert isinstance(_failure(ray, said), BadInput)
    assert "has no trustml" in str(_failure(ray, said))


def test_clocks_are_not_compared(plan: Plan, tmp_path: Path) -> None:
    """Files from the future, and from long ago: what is finished is known by what is in it."""
    folder = tmp_path / "run"
    known = list(harness.start(plan, folder))
    (folder / harness.RECORDS).write_bytes(
        (folder / harness.RECORDS).read_bytes().splitlines(keepends=True)[0]
    )
    for number, path in enumerate(sorted(folder.rglob("*"))):
        moment = 4_000_000_000 if number % 2 else 1
        os.utime(path, (moment, moment))
    again = list(harness.resume(folder))
    assert [(r.case, r.scores, r.samples) for r in again] == [
        (r.case, r.scores, r.samples) for r in known
    ]


def _node() -> str:
    return os.uname().nodename


def _sent(plan: Plan) -> tuple[Parcel, Any, Any, Shard]:
    """What a worker is sent, as far as it gets."""
    from trustml.benchmarks.exams import cases, checked
    from trustml.benchmarks.setting import load_data

    plan = checked(plan)
    dataset = load_data(plan.data, None)
    parcel = Parcel("largest", 0, b"", "", "", torch.ones(1).numpy(), (), None)
    case = next(case for case in cases(plan, dataset) if case.kind == "attack")
    return parcel, packed(dataset), case, Shard("file", torch.arange(2))


def _same(records: list[Record]) -> list[Record]:
    return [replace(r, cost=replace(r.cost, seconds=0.0), place={}) for r in records]


def test_another_version_at_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own check of both ends, in its words, told in one line."""

    def refused(**_: Any) -> None:
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.0.0\n    Python: 3.8.1\n"
            f"This process on node 10.0.0.1 was started with:\n    Ray: {ray.__version__}\n"
        )

    monkeypatch.setattr(ray, "init", refused)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    said = r"RAY_ADDRESS=auto cannot be used: Version mismatch: The cluster .* Ray: 2\.0\.0 Python"
    with pytest.raises(BadInput, match=said):
        ray_head.connected(0, "cpu").__enter__()


@pytest.mark.slow
def test_tasks_of_one_gpu_each_get_one_of_two() -> None:
    """Ray's bookkeeping for two GPUs that this machine need not have: each task sees its own."""
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    try:
        options = RayCrew(ray, "cuda")._options

        def seen() -> tuple[Any, str]:
            time.sleep(3)  # so that both are at work at once
            return ray.get_gpu_ids(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

        found = ray.get([ray.remote(**options)(seen).remote() for _ in range(2)])
        assert sorted(ids[0] for ids, _ in found) in ([0, 1], ["0", "1"])
        assert sorted(shown for _, shown in found) == ["0", "1"]
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_stopped_by_hand_nothing_is_lost_and_nobody_stays(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group, workers and all: exit code 130; --resume ends the run."""
    words = ("--model", "mlp:epochs=2", "--attack", "pgd:steps=400", "--batch-size", "8",
             "--limit", "160", "--device", "cpu", "--no-indicators", "--certify", "off",
             "--norm", "linf")  # fmt: skip

    def bench(*more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "trustml", "bench", *more, "--executor", "ray", "--workers",
             "2"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            # Whoever runs the tests in the background has them ignore it, and their children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    # Once in many runs Ray itself aborts when driver and workers stop at one moment, and says so.
    for attempt in range(3):
        run = tmp_path / f"run{attempt}"
        stopped = bench(*words, "--out", str(run))
        while stopped.poll() is None and not list(run.rglob("batches/*")):
            time.sleep(0.05)
        os.killpg(stopped.pid, signal.SIGINT)
        _, said = stopped.communicate(timeout=180)
        if "discovered a bug in Ray" not in said:
            break
    assert stopped.returncode == 130, said
    assert "Stopped." in said
    assert "Traceback" not in said
    assert (run / PLAN).exists()
    for _ in range(600):  # Ray's processes leave one after another
        left = subprocess.run(["ps", "-eo", "sid,args"], capture_output=True, text=True).stdout
        mine = [line for line in left.splitlines() if line.split()[0] == str(stopped.pid)]
        if not mine:
            break
        time.sleep(0.1)
    assert not mine
    going_on = bench("--resume", str(run))
    _, said = going_on.communicate(timeout=300)
    assert going_on.returncode == 0, said
    local = tmp_path / "local"
    done = subprocess.run(
        [sys.executable, "-m", "trustml", "bench", *words, "--out", str(local)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert _same(harness.finished(run)) == _same(harness.finished(local))
