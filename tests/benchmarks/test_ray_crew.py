"""Work sent away by Ray: the same records as those of this process, whatever is lost on the way."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from trustml.benchmarks import harness
from trustml.benchmarks.crew import crew
from trustml.benchmarks.plan import PLAN
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.errors import BadOption, UnknownName

ray = pytest.importorskip("ray", reason="needs Ray (extra: ray)")
WORDS = (
    "--model", "logistic:epochs=2", "--model", "mlp:hidden=[16],epochs=2", "--attack",
    "pgd:steps=10", "--attack", "fgsm", "--norm", "linf", "--norm", "l2", "--limit", "120",
    "--batch-size", "20", "--device", "cpu", "--no-indicators",
)  # fmt: skip


def _timeless(records: list[Record]) -> list[Record]:
    return [
        replace(r, cost=replace(r.cost, seconds=0.0), place={**r.place, "commit": "", "threads": 0})
        for r in records
    ]


def _bench(*words: str) -> "subprocess.Popen[bytes]":
    """Start the command with one thread, so that a worker's arithmetic is that of this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "trustml", "bench", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The truth: the records of this process alone."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert _bench(*WORDS, "--out", str(folder)).wait() == 0
    return _timeless(harness.finished(folder))


def _workers(of: int) -> list[int]:
    """Return the processes of Ray workers below a process."""
    found, parents = [], {of}
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    for _ in range(6):  # as deep as Ray nests them
        parents |= {int(pid) for pid, parent, _ in rows if int(parent) in parents}
    for pid, _, words in rows:
        # Not Ray's own agents, which the whole node dies with.
        if int(pid) in parents and words.startswith(("ray::make_", "ray::IDLE")):
            found.append(int(pid))
    return found


@contextlib.contextmanager
def _killer(of: int, run: Path, chance: random.Random) -> Iterator[Callable[[], int]]:
    """Kill a random worker now and then, once the run has begun; what is yielded counts them."""
    killed, stop = [0], threading.Event()

    def work() -> None:
        while not stop.wait(0.4 + 0.4 * chance.random()) and killed[0] < 5:
            found = _workers(of) if (run / PLAN).exists() else []
            for pid in chance.sample(found, min(1, len(found))):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield lambda: killed[0]
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
def test_two_workers_make_the_same_records(tmp_path: Path, whole: list[Record]) -> None:
    """Sample files are compared by the hash in the record: verdicts and adversarial bytes."""
    run = tmp_path / "run"
    done = _bench(*WORDS, "--out", str(run), "--executor", "ray", "--workers", "2")
    assert done.wait() == 0
    assert _timeless(harness.finished(run)) == whole
    assert len(list(verify(run, "cpu"))) == len(whole)


@pytest.mark.slow
def test_lost_workers_change_nothing(tmp_path: Path, whole: list[Record]) -> None:
    """Up to five workers are killed at random moments; their parts are done again."""
    run = tmp_path / "run"
    done = _bench(*WORDS, "--out", str(run), "--executor", "ray", "--workers", "2")
    with _killer(done.pid, run, random.Random(0)) as killed:
        assert done.wait() == 0
        assert killed() > 0
    assert _timeless(harness.finished(run)) == whole


@pytest.mark.slow
def test_a_lost_driver_loses_nothing(tmp_path: Path, whole: list[Record]) -> None:
    """Five drivers are killed at random moments; the last, resumed, ends with the same records."""
    run, chance = tmp_path / "run", random.Random(1)
    for _ in range(5):
        begun = (run / PLAN).exists()
        words = ("--resume", str(run)) if begun else (*WORDS, "--out", str(run))
        done = _bench(*words, "--executor", "ray", "--workers", "2")
        while done.poll() is None and not (run / PLAN).exists():
            time.sleep(0.05)
        with contextlib.suppress(subprocess.TimeoutExpired):
            done.wait(6 * chance.random() + (12 if begun else 0))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)
        done.wait()
        time.sleep(0.5)
    done = _bench("--resume", str(run))
    assert done.wait() == 0
    assert _timeless(harness.finished(run)) == whole


@pytest.mark.slow
def test_a_failing_attack_fails_its_own_case_only(tmp_path: Path) -> None:
    """What the worker raised is the reason in the record, as it would be here."""
    plugin = tmp_path / "stumbles.py"
    plugin.write_text(
        '"""An attack that raises."""\n'
        "from trustml.contracts import Access\nfrom trustml.registry import attack\n\n\n"
        '@attack(source="a test", needs=Access.LABELS, norms=("linf",))\n'
        'def stumbles(model, x, y, threat, /, *, random):\n    """Raise."""\n'
        '    raise ValueError("no idea")\n'
    )
    words = (
        "--model", "logistic:epochs=1", "--attack", "stumbles", "--attack", "fgsm", "--limit", "20",
        "--plugin", str(plugin), "--device", "cpu", "--certify", "off", "--no-indicators",
    )  # fmt: skip
    here, away = tmp_path / "here", tmp_path / "away"
    assert _bench(*words, "--out", str(here)).wait() == 1
    assert _bench(*words, "--out", str(away), "--executor", "ray", "--workers", "2").wait() == 1
    assert _timeless(harness.finished(away)) == _timeless(harness.finished(here))
    failed = next(r for r in harness.finished(away) if r.plugin == "stumbles")
    assert failed.status == "failed"
    assert "no idea" in failed.reason


def test_who_is_to_work_is_checked() -> None:
    with pytest.raises(UnknownName, match="local"):
        crew("rya", 0)
    with pytest.raises(BadOption, match="workers"):
        crew("ray", -1)
    with pytest.raises(BadOption, match="executor ray"):
        crew("local", 2)


@pytest.mark.slow
def test_a_machine_of_a_cluster_is_lost(tmp_path: Path, whole: list[Record]) -> None:
    """Two machines, as Ray sees it; one goes while it works, and what it had is done again."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        run = tmp_path / "run"
        done = subprocess.Popen(
            [sys.executable, "-m", "trustml", "bench", *WORDS, "--out", str(run), "--executor",
             "ray"],
            env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": cluster.address},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while done.poll() is None and not list(run.rglob("batches/*")):
            time.sleep(0.05)
        assert done.poll() is None, "it was at work"
        cluster.remove_node(second, allow_graceful=False)
        assert done.wait() == 0
    finally:
        cluster.shutdown()
    assert _timeless(harness.finished(run)) == whole
