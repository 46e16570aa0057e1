"""Attacks that end on the 8-bit grid: verdicts of whole steps, files, and what is refused."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import cases, checked
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.judge import Exam, judged
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.samples import FOOLED, Samples, sealed
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Record
from trustml.data.digits import digits
from trustml.errors import BadInput, BadOption, BrokenClaim
from trustml.records import read_records, to_line

HERE = Path(__file__).parent
FILES = (str(HERE / "toys.py"), str(HERE / "shades.py"))
MLP = "mlp:hidden=[16],epochs=8"
Run = Callable[..., list[Record]]


def _stored(folder: Path, case: str) -> Samples:
    return on_disk.read(folder / CASES / case / SAMPLES)[0]


@pytest.fixture
def ran(run: Run) -> Callable[..., list[Record]]:
    def runs(folder: str = "run", **changes: Any) -> list[Record]:
        facts = {"data": "shades", "models": (MLP,), "plugins": FILES, "grid": "8-bit"}
        return run(folder, **{**facts, **changes})

    return runs


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_what_is_found_survives_a_png_file(ran: Run, tmp_path: Path, norm: Any) -> None:
    """The same bits come back, so the same verdict does; every claim of the run holds."""
    records = ran(attacks=("pgd:steps=5", "fmn:steps=20"), norms=(norm,))
    assert any(r.scores["attack success"].value > 0 for r in records)
    originals = _stored(tmp_path / "run", records[1].case)
    for record in records:
        for image in _stored(tmp_path / "run", record.case).adversarial:
            shades, file = (image[0].numpy() * 255).round().astype(np.uint8), io.BytesIO()
            Image.fromarray(shades).save(file, format="PNG")
            back = np.asarray(Image.open(io.BytesIO(file.getvalue()))).copy()
            assert torch.equal(torch.from_numpy(back).float().div(255), image[0])
    assert len(originals) == 40
    assert len(list(verify(tmp_path / "run", "cpu"))) == 4
    assert records[1].threat["grid"] == "8-bit"


def test_the_verdict_is_that_of_whole_steps(exam: Callable[..., Exam]) -> None:
    """0.1 is 25.5 steps, so 25 each way: leads below 50 whole steps are lost, no others."""

    def aimed(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        rows, moved = torch.arange(len(x)), x.clone()
        moved[rows, y] -= threat.epsilon
        moved[rows, (y + 1) % 3] += threat.epsilon
        return moved

    asked = exam(aimed)
    split = asked.setting.split
    split = replace(split, x=(split.x * 255).round() / 255)
    asked = replace(asked, setting=replace(asked.setting, split=split), grid=True)
    batch = split.at(asked.setting.right)
    steps = (batch.x[:, :3] * 255).round().sort(1, descending=True).values
    lost = batch.ids[steps[:, 0] - steps[:, 1] < 50]
    samples, _ = judged(asked, batch)
    assert samples.ids[samples.verdict == FOOLED].tolist() == lost.tolist()
    assert 0 < len(lost) < len(batch)


def test_what_rounding_undid_is_mended(exam: Callable[..., Exam]) -> None:
    """A point a hair across the border: the nearest step is before it, the next one is across.

    It costs a pass to see, and one to mend, which a budget of one query refuses.
    """

    def hair(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        rows, moved = torch.arange(len(x)), x.clone()
        top = x[:, :3].sort(1, descending=True).values
        moved[rows, y] -= top[:, 0] - top[:, 1] + 0.1 / 255
        return moved

    for budget, wins in ((0, True), (1, False)):
        asked = exam(hair, Access.LABELS, budget=budget)
        split = asked.setting.split
        split = replace(split, x=(split.x * 255).round() / 255)
        asked = replace(asked, setting=replace(asked.setting, split=split), grid=True)
        batch = split.at(asked.setting.right.nonzero()[:1, 0])
        samples, _ = judged(asked, batch)
        assert bool(samples.verdict[0] == FOOLED) is wins
        assert samples.forwards.tolist() == [2.0], "the ledger has the refused one too"


def test_a_point_off_the_grid_is_not_believed(ran: Run, tmp_path: Path) -> None:
    """A third of a step back towards the input: in ball and box, but no file could hold it."""
    case = ran(attacks=("pgd:steps=5",))[1].case
    path = tmp_path / "run" / CASES / case / SAMPLES
    samples = on_disk.read(path)[0]
    moved = samples.adversarial.clone()
    moved[0, 0, 0, 0] += (0.5 - moved[0, 0, 0, 0]).sign() * 0.3 / 255
    facts = (samples.ids, samples.verdict, moved, samples.distances)
    digest = on_disk.write(sealed(*facts, (samples.forwards, samples.backwards)), path)
    lines = tmp_path / "run" / RECORDS
    records = [replace(r, samples=digest) if r.case == case else r for r in read_records(lines)]
    lines.write_text("".join(to_line(record) + "\n" for record in records))
    with pytest.raises(BrokenClaim, match="is outside its ball, box or grid"):
        list(verify(tmp_path / "run", "cpu"))


def test_data_that_are_no_pictures_are_refused(plan: Plan) -> None:
    """The digits have 16 shades: 1/4 is 63.75 steps."""
    asked = checked(replace(plan, data="digits", models=(MLP,), attacks=("pgd",), grid="8-bit"))
    with pytest.raises(BadInput, match=r"input 0 of digits does not lie on it.* of 255 steps"):
        cases(asked, digits(folder=None))


def test_a_ball_of_less_than_a_step_is_refused(ran: Run) -> None:
    with pytest.raises(BadInput, match=r"--epsilon 0.003 in linf is less than one step, 0.00392"):
        ran(attacks=("pgd",), epsilons=(0.003,))


def test_the_grid_is_about_attacks(plan: Plan) -> None:
    with pytest.raises(BadOption, match="--grid is about attacks: name an --attack"):
        checked(replace(plan, attacks=(), detectors=("energy",), grid="8-bit"))
