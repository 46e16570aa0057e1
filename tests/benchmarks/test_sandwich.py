"""Proved ≤ robust ≤ clean: what a certificate settles is not attacked, and is checked again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.samples import CERTIFIED, FOOLED, sealed
from trustml.benchmarks.verify import verify
from trustml.contracts import Record
from trustml.errors import BrokenClaim
from trustml.files import file_hash

Run = Callable[..., list[Record]]


@pytest.fixture
def linear(run: Run) -> list[Record]:
    """A linear model on the toy data, with its certificate; seed 0, few epochs."""
    return run(models=("logistic:epochs=5",), attacks=("pgd:steps=5",), certify="auto")


def test_a_linear_model_is_settled_exactly(linear: list[Record], tmp_path: Path) -> None:
    """Exact bounds leave no gap: what is not proved can be fooled, and nothing else."""
    proof, noise, attack, union = linear
    assert [r.kind for r in linear] == ["certificate", "attack", "attack", "union"]
    assert proof.options == {"method": "exact"}
    certified = proof.scores["certified accuracy"].value
    assert 0 < certified < proof.scores["clean accuracy"].value
    for record in (noise, attack, union):
        assert record.scores["certified accuracy"].value == certified
        assert record.scores["robust accuracy"].value >= certified
    assert union.scores["robust accuracy"].value == pytest.approx(certified)
    verdicts = [
        on_disk.read(tmp_path / "run" / CASES / r.case / SAMPLES)[0].verdict for r in linear
    ]
    proved = verdicts[0] == CERTIFIED
    for verdict in verdicts[1:]:
        assert bool((verdict[proved] == CERTIFIED).all())
        assert not bool((verdict[~proved] == CERTIFIED).any())


def test_the_sandwich_is_verified(linear: list[Record], tmp_path: Path) -> None:
    assert [record.case for record in verify(tmp_path / "run")] == [r.case for r in linear]


def test_a_forged_certificate_is_found_out(linear: list[Record], tmp_path: Path) -> None:
    """One more sample claimed as proved, seals and scores made to match."""
    proof = linear[0]
    file = tmp_path / "run" / CASES / proof.case / SAMPLES
    samples, _ = on_disk.read(file)
    verdict = samples.verdict.clone()
    row = int((verdict == 0).nonzero()[0])
    verdict[row] = CERTIFIED
    forged = sealed(
        samples.ids, verdict, samples.adversarial, samples.distances,
        (samples.forwards, samples.backwards),
    )  # fmt: skip
    on_disk.write(forged, file)
    lines = [json.loads(line) for line in _records(tmp_path).read_text().splitlines()]
    lines[0]["samples"] = file_hash(file)
    lines[0]["scores"]["certified accuracy"] = _proportion(int((verdict == CERTIFIED).sum()))
    _records(tmp_path).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BrokenClaim, match=rf"sample {row} .*is not proved to be robust"):
        list(verify(tmp_path / "run"))


def test_what_cannot_be_proved_is_skipped_and_said(run: Run) -> None:
    """The toy model slices its input, which the bounds do not know; the attacks run."""
    proof, *others = run(certify="auto")
    assert (proof.status, proof.kind) == ("skipped", "certificate")
    assert "no bounds" in proof.reason
    assert all(record.status == "done" for record in others)
    assert all("certificate" not in note for note in others[-1].notes)


def test_nothing_is_proved_where_nothing_can_be(run: Run) -> None:
    """No certificate row for L0, for a whole curve, or when it is switched off."""
    kinds = [r.kind for r in run("l0", attacks=("noise",), norms=("l0",), certify="auto")]
    assert kinds == ["attack", "union"]
    kinds = [r.kind for r in run("off", models=("logistic:epochs=1",), certify="off")]
    assert "certificate" not in kinds


def test_signs_are_notes_of_all_attacks_together(run: Run) -> None:
    """Three classes are too few for the DLR loss: the one sign that the toy model must show."""
    *attacks, union = run(models=("logistic:epochs=5",), indicators=True)
    assert any(note.startswith("3 classes:") for note in union.notes)
    assert not any("classes:" in note for record in attacks for note in record.notes)


def test_noise_alone_is_no_verdict(run: Run) -> None:
    """When every named attack has failed, all together would be the noise: there is no verdict."""
    records = {record.plugin: record for record in run(attacks=("fails", "unfit"))}
    assert records["noise"].status == "done"
    assert records["all"].status == "skipped"
    assert "none of fails, unfit was finished" in records["all"].reason


def test_a_reduced_precision_is_confirmed_in_float32(run: Run, tmp_path: Path) -> None:
    """The same samples are lost as in float32: what bfloat16 misses, float32 tries again."""
    same = {"models": ("mlp:epochs=5,hidden=[8]",), "attacks": ("pgd",), "epsilons": (0.08,)}
    fooled: list[Any] = []
    for precision in ("float32", "bfloat16"):
        *_, attack, _ = run(precision, precision=precision, **same)
        file = tmp_path / precision / CASES / attack.case / SAMPLES
        fooled.append(on_disk.read(file)[0].verdict == FOOLED)
        list(verify(tmp_path / precision))
    assert int(fooled[0].sum()) > 0
    # bfloat16 may find one more, never one fewer: its survivors get the very same float32 search.
    assert bool((fooled[1] | ~fooled[0]).all())


def _records(folder: Path) -> Path:
    return folder / "run" / RECORDS


def _proportion(count: int) -> dict[str, Any]:
    from dataclasses import asdict

    from trustml.metrics import proportion

    return asdict(proportion(count, 22))
