"""Runs that are killed again and again end with the records of one that was not."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.plan import PLAN
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.records import read_records

KILLS = 10
WORDS = (
    "--model", "mlp:hidden=[64],epochs=12", "--model", "logistic:epochs=3", "--norm", "linf",
    "--norm", "l2", "--attack", "pgd:steps=20,restarts=2", "--attack", "fgsm", "--limit", "240",
    "--batch-size", "8", "--device", "cpu",
)  # fmt: skip


def _begun(cache: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start `trustml bench` with a cache of its own, so that a kill can hit the training too."""
    return subprocess.Popen(
        [sys.executable, "-m", "trustml", "bench", *words],
        env={**os.environ, "TRUSTML_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _activity(*folders: Path) -> set[tuple[str, int]]:
    found = set()
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                found.add((str(path), path.stat().st_mtime_ns))
            except FileNotFoundError:  # renamed while we looked
                continue
    return found


def _killed_at_work(
    process: "subprocess.Popen[bytes]", folders: tuple[Path, Path], writes: int, rest: float
) -> bool:
    """Kill the process `rest` seconds after so many writes; return whether it was still alive."""
    before, seen = _activity(*folders), set[tuple[str, int]]()
    until = time.monotonic() + 120
    while len(seen) < writes and process.poll() is None:
        assert time.monotonic() < until, "the run came to no such number of writes"
        seen |= _activity(*folders) - before
        time.sleep(0.005)
    time.sleep(rest)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _timeless(folder: Path) -> list[Record]:
    """Return the records without seconds, and without a commit that may change meanwhile."""
    return [
        replace(r, cost=replace(r.cost, seconds=0.0), place={**r.place, "commit": ""})
        for r in read_records(folder / RECORDS)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0])
def test_ten_kills_at_random_moments_change_nothing(tmp_path: Path, seed: int) -> None:
    """The truth is one uninterrupted run; sample files are compared by their hash in the record."""
    whole, run, cache = tmp_path / "whole", tmp_path / "run", tmp_path / "cache"
    assert _begun(tmp_path / "other-cache", *WORDS, "--out", str(whole)).wait() == 0
    chance, progress = random.Random(seed), []
    for kill in range(KILLS):
        words = ("--resume", str(run)) if (run / PLAN).exists() else (*WORDS, "--out", str(run))
        # The first kills come soon enough to hit the training; the others, at any moment.
        writes = 1 if kill < 2 else chance.randint(4, 70)
        rest = chance.uniform(0, 0.5 if kill < 2 else 0.05)
        assert _killed_at_work(_begun(cache, *words), (run, cache), writes, rest), "it had ended"
        progress.append(len(read_records(run / RECORDS)))
    assert progress[-1] < len(read_records(whole / RECORDS)), "the kills came too late to matter"
    assert progress[-1] > 0, "the kills came too early to matter"
    assert _begun(cache, "--resume", str(run)).wait() == 0
    assert _timeless(run) == _timeless(whole)
    assert len(list(verify(run, "cpu"))) == len(read_records(whole / RECORDS))
    assert not list(run.rglob("batches")), "what is finished is put together"


@pytest.mark.slow
def test_a_kill_while_the_model_is_trained_changes_nothing(tmp_path: Path) -> None:
    """Before anything is in the cache: the training begins again, with the same weights."""
    words = ("--model", "mlp:hidden=[32],epochs=60,patience=0", "--limit", "20", "--device", "cpu")
    whole, run, cache = tmp_path / "whole", tmp_path / "run", tmp_path / "cache"
    assert _begun(tmp_path / "other", *words, "--out", str(whole)).wait() == 0
    assert _killed_at_work(_begun(cache, *words, "--out", str(run)), (run, cache), 1, 0.2)
    assert not list(cache.rglob("model.safetensors")), "the kill came after the training"
    assert _begun(cache, "--resume", str(run)).wait() == 0
    assert _timeless(run) == _timeless(whole)
