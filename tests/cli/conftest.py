"""The command `trustml`, run in this process, beside the toys of the benchmarks' tests."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from trustml import registry
from trustml.cli.main import main

TOYS = str(Path(__file__).parents[1] / "benchmarks" / "toys.py")


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run in an empty folder, and forget the plugins that were loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_files", list(registry._files))
    before = registry._plugins_of_guests()
    yield
    for key in registry._plugins_of_guests() - before:
        del registry._plugins[key]


@pytest.fixture
def trustml(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Return a function that runs `trustml WORDS`."""

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["trustml", *words])
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        return Ended(0 if code is None else int(code), *capsys.readouterr())

    return run


@pytest.fixture
def toys() -> tuple[str, ...]:
    """The words that make `trustml bench` use the toys."""
    given = ("--plugin", TOYS, "--data", "toy", "--certify", "off", "--no-indicators")
    return (*given, "--model", "largest", "--attack", "aim")
