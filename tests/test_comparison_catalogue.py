"""The comparison of all pairs of attacks: what it counts, judges and sums up; peers not needed."""

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.registry import get, names


@pytest.fixture(name="parts")
def fixture_parts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The two files, imported as when the command is run from their folder."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "comparisons"))
    return importlib.import_module("catalogue"), importlib.import_module("pairs")


class Half(nn.Module):
    """Class 1 where the first entry is above a half: the nearest point is known."""

    def forward(self, x: Tensor) -> Tensor:
        first = x.flatten(1)[:, 0]
        return torch.stack([0.5 - first, first - 0.5], 1)


def bench(parts: tuple[ModuleType, ModuleType], norm: str = "linf", **given: Any) -> Any:
    """Four images of a single row at 0.1, 0.2, 0.3 and 0.4, of class 0."""
    x = torch.tensor([0.1, 0.2, 0.3, 0.4]).view(4, 1, 1, 1).repeat(1, 1, 1, 3)
    y = torch.zeros(4, dtype=torch.int64)
    chosen = {"epsilon": 0.25, "steps": 20, "queries": 50, **given}
    return parts[1].Bench("half", parts[1].Counted(Half()), x, y, norm, *chosen.values())


def test_rows_are_counted_both_ways(parts: tuple[ModuleType, ModuleType]) -> None:
    """Two calls of four rows, one of them led back twice: 8 rows forwards, 8 backwards."""
    here = bench(parts)
    point = here.x.clone().requires_grad_()
    here.model(here.x)
    logits = here.model(point)
    torch.autograd.grad(logits[:, 0].sum(), point, retain_graph=True)
    torch.autograd.grad(logits[:, 1].sum(), point)
    assert (here.model.forwards, here.model.backwards) == (8, 8)


def test_optimality_is_one_for_the_best_and_the_share_of_the_area_else(
    parts: tuple[ModuleType, ModuleType],
) -> None:
    """Best 1, 2, 4: up to 4 the curve has 3 + 2 + 0 above it. 2, 4, inf has 2 + 0 + 0 of these."""
    best = torch.tensor([1.0, 2.0, 4.0]).double()
    assert parts[0].optimal(best, best) == 1.0
    assert parts[0].optimal(torch.tensor([2.0, 4.0, math.inf]).double(), best) == 2 / 5
    assert parts[0].optimal(torch.full((3,), math.inf).double(), best) == 0.0


def test_signs_are_tested_exactly(parts: tuple[ModuleType, ModuleType]) -> None:
    """Six of six is 2/64; five of six 2 · 7/64; nothing to tell apart is 1."""
    assert parts[0].sign_test(6, 0) == 2 / 64
    assert parts[0].sign_test(1, 5) == 14 / 64
    assert parts[0].sign_test(0, 0) == 1.0


def test_a_search_takes_no_more_passes_than_its_peer(
    parts: tuple[ModuleType, ModuleType],
) -> None:
    """The peer asks 30 times and goes back 30 times; ours may take 60 passes and takes most."""
    catalogue, pairs = parts

    def peer(here: Any) -> Tensor:
        for _ in range(30):
            point = here.x.clone().requires_grad_()
            torch.autograd.grad(here.model(point)[:, 1].sum(), point)
        return here.x + 0.45

    pair = pairs.Pair("fmn", "nobody", "peer", "linf", peer, fixed=False, equal=True)
    row = catalogue.compared(pair, bench(parts), None, 1)
    assert row.theirs.passes == 60
    assert 50 <= row.ours.passes <= 60
    assert torch.allclose(row.ours.far, torch.tensor([0.4, 0.3, 0.2, 0.1]).double(), rtol=0.02)
    assert (row.nearer, row.farther) == (4, 0)


def test_leaving_ball_or_box_is_counted_and_is_no_success(
    parts: tuple[ModuleType, ModuleType],
) -> None:
    """At radius 0.25 and its shares a peer that always goes 0.45 leaves each of five balls."""
    catalogue, pairs = parts
    pair = pairs.Pair("fgsm", "nobody", "peer", "linf", lambda here: here.x + 0.45, effort="")
    row = catalogue.compared(pair, bench(parts), None, 1)
    assert row.theirs.outside == 4 * len(catalogue.LEVELS)
    assert row.theirs.far.isinf().all()
    assert row.ours.outside == 0
    assert row.ours.cell.startswith("50 "), "0.3 and 0.4 are within 0.25 of the border"


def test_a_peer_that_fails_is_a_row(parts: tuple[ModuleType, ModuleType]) -> None:
    """What a peer raises is said in its cell, and the run goes on."""
    catalogue, pairs = parts

    def peer(here: Any) -> Tensor:
        raise ValueError("no")

    pair = pairs.Pair("fgsm", "nobody", "peer", "linf", peer, effort="")
    assert catalogue.compared(pair, bench(parts), None, 1) == "failed: ValueError no"


def test_every_pair_has_options_that_ours_takes(parts: tuple[ModuleType, ModuleType]) -> None:
    """The list names attacks, norms and options that exist; attacks to come are left out."""
    known = set(names("attack"))
    for pair in parts[1].PAIRS:
        if pair.ours not in known:
            continue
        plugin = get("attack", pair.ours)
        effort = {pair.effort} if pair.effort else set()
        assert pair.norm in plugin.facts["norms"], pair.text
        assert effort | set(pair.options) <= {option.name for option in plugin.options}, pair.text
