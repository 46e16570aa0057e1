"""The exam of routes and safeguards in the harness: rows, monitors, poisons, forged claims."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from trustml import registry
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked, size
from trustml.benchmarks.harness import RECORDS, resume
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.errors import BadOption, BrokenClaim, UnknownName
from trustml.files import file_hash

Run = Callable[..., list[Record]]
MODEL = "mlp:epochs=8,hidden=[32]"
DIGITS: dict[str, Any] = {
    "models": (MODEL,), "data": "digits", "attacks": (), "limit": 120, "plugins": (),
}  # fmt: skip
LIMITS = {"beaten_by": "a test", "does_not_stop": "a test"}


@pytest.fixture
def watching() -> Iterator[Callable[..., None]]:
    """Return a function that registers a monitor, and forget it afterwards."""

    def register(function: Callable[..., Any]) -> None:
        registry.safeguard(source="a test", stage="monitoring", **LIMITS)(function)

    yield register
    registry._plugins.pop(("safeguard", "watcher"), None)


def by_guard(records: list[Record]) -> dict[str, Record]:
    """Return the records by the name of their safeguard."""
    assert all(r.status == "done" for r in records), [r.reason for r in records]
    return {str(r.options["safeguard"]).split(":")[0]: r for r in records}


def test_each_route_has_a_row_without_and_one_with_each_safeguard(run: Run, tmp_path: Path) -> None:
    """The row without: nothing is changed by no safeguard, and nothing more is to be known."""
    records = run(
        **DIGITS, routes=("scanner_pattern:steps=20", "gain_drift"), defenses=("abstain:rate=0.1",)
    )
    assert [r.case for r in records] == [
        "mlp-scanner_pattern-none", "mlp-scanner_pattern-abstain",
        "mlp-gain_drift-none", "mlp-gain_drift-abstain",
    ]  # fmt: skip
    rows = by_guard(records[:2])
    bare, gated = rows["none"].scores, rows["abstain"].scores
    assert bare["success static"] == bare["success adaptive"] == bare["success without"]
    assert bare["success without"].value > 0.1
    assert bare["clean accuracy change"].value == 0
    assert gated["success without"] == bare["success without"]
    assert gated["success static"].value < bare["success static"].value
    assert 0 < gated["review per 1000"].value < 300
    assert "found adaptive at 5 %" in gated
    assert any("aims at what the gate passes" in note for note in rows["abstain"].notes)
    assert any("beaten by" in note for note in rows["abstain"].notes)
    assert [r.case for r in verify(tmp_path / "run")] == [r.case for r in records]


def test_how_often_a_wanted_class_is_hit_is_noted(run: Run) -> None:
    """A pattern of the whole box's side writes the class over everything: what is misread is it."""
    routes = ("scanner_pattern:target=3,epsilon=1", "scanner_pattern:epsilon=1")
    record, other = run(**DIGITS, routes=routes)
    (note,) = (note for note in record.notes if note.startswith("read as class 3"))
    share = float(note.split("static ")[1].rstrip("%"))
    assert share > 80
    # Mail of class 3 counts in neither: the two shares differ by that tenth at most.
    assert abs(share / 100 - record.scores["success static"].value) < 0.15
    assert not any("read as class" in note for note in other.notes)


def test_a_gradient_that_is_hidden_is_named(run: Run) -> None:
    """Fewer shades have no gradient of their own; past it the pattern gets through as before."""
    records = run(
        **DIGITS, routes=("scanner_pattern:epsilon=0.3",), indicators=True,
        defenses=("bit_depth:bpda=false,bits=4",),
    )  # fmt: skip
    rows = by_guard(records)
    assert any("only hides gradients" in note for note in rows["bit_depth"].notes)
    assert any("mislead" in note for note in rows["bit_depth"].notes)
    assert rows["bit_depth"].scores["success adaptive"].value > 0.3


def test_a_monitor_that_sees_the_change_stops_the_scanner_at_once(
    run: Run, watching: Callable[..., None], tmp_path: Path
) -> None:
    """It compares what the scanner shows with what went in: all streams found, after one item."""

    def watcher(model, validation, /, *, random):  # type: ignore[no-untyped-def]
        """Watch."""
        return lambda items, scan: (scan(items) - items).flatten(1).abs().amax(1).cummax(0).values

    watching(watcher)
    scores = by_guard(run(**DIGITS, routes=("gain_drift",), defenses=("watcher",)))[
        "watcher"
    ].scores
    for way in ("static", "adaptive"):
        assert scores[f"found {way} at 1 %"].value == 1
        assert scores[f"delay {way} at 5 %"].value == 1
        assert scores[f"success {way}"].value < 0.02
    assert [r.status for r in verify(tmp_path / "run")] == ["done", "done"]


def test_a_blind_monitor_stops_nothing(run: Run, watching: Callable[..., None]) -> None:
    """It always says the same: no stream is above the threshold, and all that is misread is lost.

    Streams are drawn from the mail, so that their share is that of the mail within a few points.
    """

    def watcher(model, validation, /, *, random):  # type: ignore[no-untyped-def]
        """Watch."""
        return lambda items, scan: torch.ones(len(items))

    watching(watcher)
    rows = by_guard(run(**DIGITS, routes=("scanner_pattern:steps=20",), defenses=("watcher",)))
    scores = rows["watcher"].scores
    assert scores["found static at 5 %"].value == 0
    assert "delay static at 5 %" not in scores
    without = scores["success without"].value
    assert scores["success static"].value == pytest.approx(without, abs=0.05)


def test_a_monitor_that_is_right_but_slow_to_tell(run: Run, watching: Callable[..., None]) -> None:
    """It wakes at item 10 and then sees everything: the delay is ten items."""

    def watcher(model, validation, /, *, random):  # type: ignore[no-untyped-def]
        """Watch."""

        def watch(items: Tensor, scan: Callable[[Tensor], Tensor]) -> Tensor:
            odd = (scan(items) - items).flatten(1).abs().amax(1)
            return torch.where(torch.arange(len(items)) >= 9, odd, 0)

        return watch

    watching(watcher)
    rows = by_guard(run(**DIGITS, routes=("gain_drift",), defenses=("watcher",)))
    assert rows["watcher"].scores["delay static at 5 %"].value == 10


def test_a_backdoor_and_what_takes_the_poison_out(run: Run, tmp_path: Path) -> None:
    """The mark works after 5 % poison; without the odd samples of each class it does not."""
    records = run(
        **DIGITS, poisons=("badnets:rate=0.05",), defenses=("spectral_signatures", "abstain")
    )
    rows = by_guard(records)
    bare, clean = rows["none"].scores, rows["spectral_signatures"].scores
    assert bare["success without"].value > 0.8
    assert clean["success without"] == bare["success without"]
    assert clean["success static"].value < 0.5 * bare["success static"].value
    assert clean["poisons found"].value > 0.5
    assert "success adaptive" not in clean
    assert "poisons found" not in rows["abstain"].scores
    assert len(list(verify(tmp_path / "run"))) == 3


def test_a_poison_is_not_seen_by_who_watches_the_scanner(run: Run) -> None:
    record = run(**DIGITS, poisons=("label_flip",), defenses=("golden_card",))[1]
    assert record.status == "skipped"
    assert "watches the scanner" in record.reason


def test_flips_cost_accuracy_and_that_is_their_success(run: Run) -> None:
    """Without a trigger the success is what is lost, paired, against a model of clean data."""
    (record,) = run(**DIGITS, poisons=("label_flip:rate=0.5",))
    scores = record.scores
    lost = scores["clean accuracy"].value - scores["poisoned accuracy"].value
    assert scores["success without"].value == pytest.approx(lost)
    assert lost > 0.02


def test_a_stopped_run_goes_on_where_it_was(run: Run, tmp_path: Path) -> None:
    records = run(**DIGITS, routes=("gain_drift",), defenses=("abstain",))
    path = tmp_path / "run" / RECORDS
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    again = list(resume(tmp_path / "run"))
    clocked = ("latency p50", "latency p95")
    for one, other in zip(records, again, strict=True):
        same = {k: v for k, v in one.scores.items() if k not in clocked}
        assert same == {k: v for k, v in other.scores.items() if k not in clocked}


@pytest.mark.parametrize(
    ("name", "forged", "complaint"),
    [
        ("static: inputs", lambda x: x + 5, "out of the box"),
        ("static: inputs", lambda x: x.flip(0), "is not what the model says"),
        ("static: misread", lambda x: 1 - x, "is not what the model says"),
        ("static: accepted", lambda x: 1 - x, "is not what the model says"),
        ("validation: doubt", lambda x: x + 9, "scores do not follow"),
    ],
)
def test_what_is_forged_is_found_out(
    run: Run, tmp_path: Path, name: str, forged: Callable[[Tensor], Tensor], complaint: str
) -> None:
    run(**DIGITS, routes=("scanner_pattern:steps=10",), defenses=("abstain",))
    file = tmp_path / "run" / CASES / "mlp-scanner_pattern-abstain" / SAMPLES
    stored = load(file.read_bytes())
    stored[name] = forged(stored[name])
    file.write_bytes(save({key: part.contiguous() for key, part in stored.items()}))
    path = tmp_path / "run" / RECORDS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["samples"] = file_hash(file)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BrokenClaim, match=complaint):
        list(verify(tmp_path / "run"))


def test_groups_stand_for_their_routes(plan: Plan) -> None:
    digits = replace(plan, **DIGITS)
    scanner = checked(replace(digits, routes=("scanner",)))
    assert [text.split(":")[0] for text in scanner.routes] == [
        "gain_drift", "lens_sticker", "scanner_pattern", "stuck_pixels",
    ]  # fmt: skip
    everything = checked(replace(digits, routes=("all",), defenses=("abstain",)))
    assert {text.split(":")[0] for text in everything.poisons} == {*registry.names("poison")}
    assert size(everything) == 2 * (len(registry.names("route")) + len(registry.names("poison")))
    assert checked(everything) == everything, "a resumed run is checked again"
    assert checked(replace(digits, routes=("badnets",))).poisons[0].startswith("badnets:")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"routes": ("scaner",)}, UnknownName, "did you mean 'scanner'"),
        ({"routes": ("scanner:steps=1",)}, BadOption, "a group of routes, and has no options"),
        ({"routes": ("gain_drift",), "defenses": ("abstane",)}, UnknownName, "'abstain'"),
        (
            {"routes": ("gain_drift",), "defenses": ("abstain+spectral_signatures",)},
            BadOption,
            r"in an order that can work it is mlp\+spectral_signatures\+abstain",
        ),
        (
            {"routes": ("gain_drift",), "defenses": ("abstain+golden_card",)},
            BadOption,
            "give it a --defense of its own",
        ),
        ({"routes": ("gain_drift",), "defenses": ("none",)}, BadOption, "is always there"),
        ({"defenses": ("abstain",)}, BadOption, "give --route or --poison too"),
        ({"poisons": ("badnets:rate=1.5",)}, BadOption, "a share from 0 to 1"),
        (
            {"poisons": ("badnets",), "models": ("mlp:weights=there.safetensors",)},
            BadOption,
            "leave out weights=",
        ),
        (
            {
                "routes": ("gain_drift",),
                "defenses": ("trades",),
                "models": ("mlp:weights=there.safetensors",),
            },
            BadOption,
            "leave out weights=, or trades",
        ),
        (
            {"models": ("mlp+golden_card",), "attacks": ("fgsm",)},
            BadOption,
            "--defense golden_card",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    plan: Plan, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        checked(replace(plan, **{**DIGITS, **changes}))


def test_a_trigger_larger_than_the_image_is_refused(run: Run) -> None:
    with pytest.raises(BadOption, match="does not fit into an image of 8x8"):
        run(**DIGITS, poisons=("badnets:size=9",))


def test_inputs_without_two_axes_skip_with_what_would_do(run: Run) -> None:
    records = run(
        models=("mlp:epochs=1",), data="moons", attacks=(), limit=40, plugins=(),
        routes=("stuck_pixels", "gain_drift"),
    )  # fmt: skip
    assert [r.status for r in records] == ["skipped", "done"]
    assert "gain_drift" in records[0].reason
