"""The toys of toys.py, for one test at a time."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trustml import registry
from trustml.benchmarks.harness import start
from trustml.benchmarks.judge import Exam
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.setting import Setting
from trustml.contracts import Access, Record
from trustml.recipes import choose, read_recipe

TOYS = str(Path(__file__).with_name("toys.py"))


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Load the plugin file, give its module, and forget it afterwards."""
    monkeypatch.setattr(registry, "_files", list(registry._files))
    before = registry._plugins_of_guests()
    registry.load_file(TOYS)
    yield registry._files[-1]
    for key in registry._plugins_of_guests() - before:
        del registry._plugins[key]


@pytest.fixture
def plan() -> Plan:
    """A plan of the toys: `aim` on `largest`, with nothing proved and no signs looked for."""
    return Plan(
        models=("largest",), attacks=("aim",), data="toy", plugins=(TOYS,), device="cpu",
        certify="off", indicators=False,
    )  # fmt: skip


@pytest.fixture
def run(plan: Plan, tmp_path: Path) -> Callable[..., list[Record]]:
    """Return a function that runs the plan with the given changes, in tmp_path/run by default."""

    def runs(folder: str = "run", **changes: Any) -> list[Record]:
        return list(start(replace(plan, **changes), tmp_path / folder))

    return runs


@pytest.fixture
def exam(toys: Any) -> Callable[..., Exam]:
    """Return a function that makes an exam of the toy model with an attack function."""

    def made(function: Callable[..., Any], needs: Access = Access.LABELS, **facts: Any) -> Exam:
        function.__name__, function.__doc__ = "planted", "Attack."
        registry._plugins.pop(("attack", "planted"), None)
        registry.attack(source="a test", needs=needs, norms=("linf",))(function)
        split = toys.points(0)
        module = registry.get("model", "largest").function(split.domain)
        right = module(split.x).argmax(1) == split.y
        setting = Setting(read_recipe("largest"), module, "", split, "", right, ())
        known = {"norm": "linf", "epsilon": 0.1, "target": "none", "seed": 0, "budget": 0}
        attack, device = choose("attack", "planted"), torch.device("cpu")
        return Exam(setting, attack, **{**known, **facts}, device=device)

    return made
