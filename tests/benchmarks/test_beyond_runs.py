"""Runs under threats beyond the norms: judged, recorded, verified; forged samples are found out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS, start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.samples import Samples, sealed
from trustml.benchmarks.verify import verify
from trustml.errors import BadInput, BadOption, BrokenClaim, UnknownName
from trustml.records import read_records, to_line
from trustml.reports.table import render
from trustml.reports.tables import console

ATTACKS = {
    "patch": "patch:steps=5", "spatial": "spatial:members=10", "colour": "perceptual:steps=5",
    "structure": "perceptual:steps=5", "wasserstein": "wasserstein:steps=5",
    "flow": "flow:steps=5",
}  # fmt: skip


def _plan(measure: str, place: Path) -> Plan:
    """Digits, or for colours 200 bright or dark pictures in three channels."""
    generator = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = generator.random((200, 3, 6, 6)).astype(np.float32) * 0.3 + 0.35 * y[:, None, None, None]
    np.savez(place / "pictures.npz", x=x, y=y)
    return Plan(
        models=("logistic",), attacks=(ATTACKS[measure],), norms=(measure,), limit=12,
        data=f"npz:path={place / 'pictures.npz'}" if measure == "colour" else "digits",
        device="cpu",
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("measure", sorted(ATTACKS))
def test_a_run_is_judged_recorded_verified_and_cannot_be_forged(
    measure: str, tmp_path: Path
) -> None:
    """No certificate; the noise's row; the measure's own median; another picture is outside."""
    place = tmp_path / "run"
    records = list(start(_plan(measure, tmp_path), place))
    assert [record.kind for record in records] == ["attack", "attack", "union"]
    assert all(record.status == "done" for record in records), records
    samples = [on_disk.read(place / CASES / r.case / SAMPLES)[0] for r in records]
    assert all(each.distances.shape == (12, 5) for each in samples)
    fooled = samples[-1].verdict == 1
    if bool(fooled.any()):
        score = records[-1].scores[f"median {measure}"]
        assert score.value <= records[-1].threat["epsilon"] + 1e-9
    assert len(list(verify(place))) == 3
    screen = console()
    with screen.capture() as shown:
        for part in render(records):
            screen.print(part)
    assert f"{measure} ≤" in shown.get()
    case = records[1].case
    _forge(place, case)
    with pytest.raises(BrokenClaim, match=r"sample 0 .* is outside its ball"):
        list(verify(place))


def _forge(place: Path, case: str) -> None:
    """Put another picture in the place of the first sample's, with new seals everywhere."""
    file = place / CASES / case / SAMPLES
    samples, made = on_disk.read(file)
    moved = samples.adversarial.clone()
    moved[0] = 1 - moved[0].flip(1, 2)
    forged: Samples = sealed(
        samples.ids, samples.verdict, moved, samples.distances,
        (samples.forwards, samples.backwards),
    )  # fmt: skip
    digest = on_disk.write(forged, file, made)
    records = read_records(place / RECORDS)
    changed = [replace(r, samples=digest) if r.case == case else r for r in records]
    (place / RECORDS).write_text("".join(to_line(record) + "\n" for record in changed))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"norms": ("pach",)}, UnknownName, "did you mean 'patch'"),
        ({"norms": ("patch",), "attacks": ("pgd",)}, BadOption, "these know it: noise, patch"),
        ({"norms": ("patch",), "epsilons": (1.2,)}, BadInput, "as large as the image or larger"),
        ({"norms": ("patch",), "epsilons": (0.01,)}, BadInput, "less than a pixel of 8×8"),
        ({"norms": ("colour",), "attacks": ("perceptual",)}, BadInput, "have 1 channel"),
        ({"norms": ("patch",), "data": "moons"}, BadInput, "measure of images"),
        ({"norms": ("patch",), "curve": True}, BadOption, "minimum-norm"),
    ],
)
def test_what_cannot_be_planned(
    changes: dict[str, object], error: type[Exception], said: str, tmp_path: Path
) -> None:
    plan = Plan(models=("logistic",), attacks=("patch",), limit=5)
    with pytest.raises(error, match=said):
        list(start(replace(plan, **changes), tmp_path / "run"))  # type: ignore[arg-type]


def test_detectors_are_attacked_in_balls_alone() -> None:
    plan = Plan(models=("logistic",), detectors=("margin",), norms=("patch",), aware=True)
    with pytest.raises(BadOption, match="looks for inputs in balls"):
        checked(plan)


def test_targets_are_reached_in_a_patch(tmp_path: Path) -> None:
    """With half of the image free a weighed sum can be brought to any class."""
    plan = Plan(
        models=("logistic",), attacks=("patch:steps=20",), norms=("patch",), epsilons=(0.5,),
        target="next", limit=10, device="cpu",
    )  # fmt: skip
    records = list(start(plan, tmp_path / "run"))
    found, _ = on_disk.read(tmp_path / "run" / CASES / records[1].case / SAMPLES)
    assert int((found.verdict == 1).sum()) >= 8
    assert torch.equal(found.ids, torch.arange(10)) or len(found) == 10
