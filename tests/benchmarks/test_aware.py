"""The attack that knows the detector, where what it can reach is known by hand; stolen queries."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trustml.benchmarks.aware import Guarded, slip_past, unit_of
from trustml.benchmarks.detected import read
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.slipped import INPUTS, passed
from trustml.benchmarks.stolen import THIEVES
from trustml.benchmarks.verify import verify
from trustml.contracts import Outputs, Record
from trustml.errors import BadOption, BrokenClaim, UnknownName
from trustml.randomness import keyed
from trustml.registry import all_of
from trustml.threats import Lp

Run = Callable[..., list[Record]]
SMALL = {"models": ("mlp:epochs=5,hidden=[16]",), "data": "digits", "attacks": (), "limit": 60}
EPSILON, GAP = 0.1, 0.06


def toy(toys: Any, cut: Callable[[Tensor], Tensor]) -> Guarded:
    """The toy behind a gate that stops answers whose lead is below GAP."""
    module = toys._Largest("")

    def ask(x: Tensor) -> Outputs:
        return Outputs(module(x), x, x, torch.zeros(len(x), dtype=torch.long))

    def scorer(outputs: Outputs) -> Tensor:
        first, second = outputs.logits.topk(2, 1).values.unbind(1)
        return cut(second - first)

    return Guarded(ask, scorer, -10 * GAP - 1e-6, (1.0, 1.0))


@pytest.mark.parametrize("gradient", [True, False])
def test_it_reaches_just_what_can_be_reached(toys: Any, gradient: bool) -> None:
    """A lead l can be turned into one of 2 epsilon - l the other way: passed where that is GAP."""
    guarded = toy(toys, (lambda s: s) if gradient else (lambda s: s.detach()))
    split = toys.points(0).at(slice(0, toys.COUNT))
    threat = Lp("linf", EPSILON)
    found = slip_past(guarded, split.x, split.y, threat, keyed(0, split.ids))
    assert found.by_gradient == gradient
    candidate = threat.project(found.candidate, split.x)
    gaps = guarded.gaps(candidate, split.y).detach()
    lead = 0.02 * (torch.arange(toys.COUNT) + 0.5)
    slips = (gaps[:, 0] < 0) & (gaps[:, 1] <= 0)
    wanted = lead <= 2 * EPSILON - GAP
    assert 0 < int(wanted.sum()) < int((lead < 2 * EPSILON).sum())
    assert torch.equal(slips, wanted)


def test_samples_do_not_depend_on_who_shares_the_batch(toys: Any) -> None:
    guarded, split = toy(toys, lambda s: s.detach()), toys.points(0)
    threat = Lp("linf", EPSILON)
    whole = slip_past(guarded, split.x, split.y, threat, keyed(0, split.ids)).candidate
    rows = torch.tensor([3, 8, 1])
    part = split.at(rows)
    again = slip_past(guarded, part.x, part.y, threat, keyed(0, part.ids)).candidate
    assert torch.equal(again, whole[rows])


def test_a_unit_is_a_spread_or_one() -> None:
    assert unit_of(torch.tensor([1.0, 3.0, torch.inf])) == pytest.approx(2**0.5)
    assert unit_of(torch.ones(5)) == 1.0


def test_what_passes_is_counted_from_what_is_stored() -> None:
    """Two of four are misread, and one of these is stopped."""
    found = {
        "aware linf 0.1: misread": torch.tensor([1, 1, 0, 0], dtype=torch.uint8),
        "aware linf 0.1: suspicion": torch.tensor([0.1, 0.9, 0.1, 0.9]),
    }
    score = passed(found, 0.5)["aware linf 0.1: passed"]
    assert (score.value, score.better) == (0.25, "lower")
    assert score.low < 0.25 < score.high


def test_knowing_the_detector_helps(run: Run, tmp_path: Path) -> None:
    """More passes than of what PGD made, which did not know it; and every claim is checked."""
    known = {**SMALL, "attacks": ("pgd:steps=20",), "epsilons": (0.15,)}
    records = run(**known, detectors=("knn", "feature_squeezing"), outside=("noise",), aware=True)
    for record in (r for r in records if r.kind == "detector"):
        fooled = next(r for r in records if r.plugin == "pgd").scores["attack success"].value
        unaware = fooled * (1 - record.scores["pgd linf 0.15: stopped"].value)
        assert record.scores["aware linf 0.15: passed"].value >= unaware
        assert not any("no gradient" in note for note in record.notes)
    assert len(list(verify(tmp_path / "run"))) == len(records)


def test_a_candidate_out_of_the_ball_is_found(run: Run, tmp_path: Path) -> None:
    """The file's hash is renewed, so that only the ball can tell."""
    record = run(**SMALL, detectors=("mcp",), outside=("noise",), aware=True)[-1]
    file = tmp_path / "run" / CASES / record.case / SAMPLES
    stored = load_file(file)
    stored[f"aware linf 0.1{INPUTS}"][7] += 0.2
    save_file(stored, file)
    import hashlib

    lines = (tmp_path / "run" / "records.jsonl").read_text()
    lines = lines.replace(record.samples, hashlib.sha256(file.read_bytes()).hexdigest())
    (tmp_path / "run" / "records.jsonl").write_text(lines)
    with pytest.raises(BrokenClaim, match="sample 7 lies outside the ball or the box"):
        list(verify(tmp_path / "run"))


def test_draws_are_attacked_without_a_gradient(run: Run) -> None:
    """A share of votes has no slope: it says that a random search had to do."""
    model = "bnn:posterior=mc_dropout,epochs=2,draws=3"
    changes = {**SMALL, "models": (model,), "limit": 4}
    record = run(**changes, detectors=("variation_ratio",), outside=("noise",), aware=True)[-1]
    assert "a random search had to do" in " ".join(record.notes)
    assert "aware linf 0.1: passed" in record.scores


def test_its_budget_and_goal_are_its_own(plan: Plan) -> None:
    with pytest.raises(BadOption, match="leave --budget and --target out"):
        checked(replace(plan, detectors=("mcp",), aware=True, budget=5))


def test_every_detector_is_all(plan: Plan) -> None:
    texts = checked(replace(plan, detectors=("all", "mcp"))).detectors
    assert len(texts) == len(all_of("detector"))


def test_queries_of_thieves_are_sets(run: Run, tmp_path: Path) -> None:
    """Noise lies all over the box and corners have one entry: neither looks like a digit."""
    record = run(**SMALL, detectors=("fusion",), outside=("stealing",))[-1]
    assert record.threat["outside"] == list(THIEVES)
    stored = read(tmp_path / "run" / CASES / record.case / SAMPLES)
    assert all(0 < len(stored[f"set {thief}"]) <= 60 for thief in THIEVES)
    assert record.scores["knockoff:inputs=noise,snapshots=1: auroc"].value > 0.9
    # The 65 corners of a linear victim, as many as are examined.
    assert len(stored["set linear_exact"]) == 60


def test_a_thief_s_options_are_checked(plan: Plan) -> None:
    from trustml.benchmarks.exams import cases
    from trustml.benchmarks.setting import load_data

    changed = replace(plan, **SMALL, detectors=("mcp",), outside=("knockoff:querys=3",))
    with pytest.raises(UnknownName, match="did you mean 'queries'"):
        cases(checked(changed), load_data("digits", None))
