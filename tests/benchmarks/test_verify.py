"""Checking a run again: an honest one passes, and nothing in it can be changed unnoticed."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.layout import end_of, header_of
from trustml.benchmarks.plan import PLAN
from trustml.benchmarks.samples import FOOLED, Samples, sealed
from trustml.benchmarks.verify import verify
from trustml.contracts import Record, Score
from trustml.errors import BadInput, BrokenClaim
from trustml.records import read_records, to_line

AIM = "largest-linf-0.1-aim"
Change = Callable[[Samples], Samples]


@pytest.fixture
def folder(run: Callable[..., list[Record]], tmp_path: Path) -> Path:
    """A finished, honest run of noise, `aim`, a failing attack, and all together."""
    run(attacks=("aim", "fails"))
    return tmp_path / "run"


def _rewritten(folder: Path, change: Callable[[Record], Record]) -> None:
    records = [change(record) for record in read_records(folder / RECORDS)]
    (folder / RECORDS).write_text("".join(to_line(record) + "\n" for record in records))


def _forged(folder: Path, case: str, change: Change) -> None:
    """Change a case's samples and everything that vouches for their bytes, as a forger would."""
    path = folder / CASES / case / SAMPLES
    digest = on_disk.write(change(on_disk.read(path)[0]), path)
    _rewritten(folder, lambda r: replace(r, samples=digest) if r.case == case else r)


def _resealed(samples: Samples, **changes: torch.Tensor) -> Samples:
    parts = {name: changes.get(name, getattr(samples, name)) for name in Samples.__slots__}
    return sealed(
        parts["ids"], parts["verdict"], parts["adversarial"], parts["distances"],
        (parts["forwards"], parts["backwards"]),
    )  # fmt: skip


def _refused(folder: Path, said: str) -> None:
    with pytest.raises(BrokenClaim, match=said):
        list(verify(folder, "cpu"))


def test_an_honest_run_passes(folder: Path) -> None:
    """Every record comes back, the failed case's too: it claims nothing."""
    assert list(verify(folder, "cpu")) == read_records(folder / RECORDS)


def test_an_honest_run_passes_whatever_its_plan(run: Callable[..., Any], tmp_path: Path) -> None:
    """Real attacks, a shard, a target, reversed order, several budgets."""
    changes = {"attacks": ("pgd:steps=3", "still"), "epsilons": (0.05, 0.2)}
    run("a", **changes, shard=(1, 2), order="reversed", batch_size=3)
    run("b", attacks=("pgd:steps=3",), target="next")
    for name, count in (("a", 8), ("b", 3)):
        assert len(list(verify(tmp_path / name, "cpu"))) == count


def test_a_stopped_run_is_checked_as_far_as_it_came(folder: Path) -> None:
    lines = (folder / RECORDS).read_text().splitlines(keepends=True)
    (folder / RECORDS).write_text("".join(lines[:2]))
    assert len(list(verify(folder, "cpu"))) == 2


def test_a_changed_byte_of_a_stored_sample_is_named(folder: Path) -> None:
    """Wherever it is among the adversarial inputs: the row follows from the place."""
    path = folder / CASES / AIM / SAMPLES
    whole = path.read_bytes()
    start = end_of(whole) + header_of(whole)["adversarial"]["data_offsets"][0]
    for place in random.Random(0).sample(range(22 * 4 * 4), 20):
        changed = bytearray(whole)
        changed[start + place] ^= 1
        path.write_bytes(changed)
        row = place // 16
        _refused(folder, rf"aim/samples\.safetensors: sample {row} \(id {3000 + row}\)")


def test_a_file_of_another_case_is_not_believed(folder: Path) -> None:
    """Whole and well, but not the file that the record speaks of."""
    noise = folder / CASES / "largest-linf-0.1-noise" / SAMPLES
    (folder / CASES / AIM / SAMPLES).write_bytes(noise.read_bytes())
    _refused(folder, f"is not the file that the record of {AIM} speaks of")


def _outside(samples: Samples) -> Samples:
    moved = samples.adversarial.clone()
    # The last bit of a coordinate that was moved down by all that is allowed.
    moved[4, 1] = torch.nextafter(moved[4, 1], torch.tensor(-1.0))
    return _resealed(samples, adversarial=moved)


def _another_distance(samples: Samples) -> Samples:
    far = samples.distances.clone()
    far[4, 2] *= 1.001
    return _resealed(samples, distances=far)


def _another_verdict(samples: Samples) -> Samples:
    verdict = samples.verdict.clone()
    verdict[15] = FOOLED
    return _resealed(samples, verdict=verdict)


def _clean_again(samples: Samples) -> Samples:
    verdict = samples.verdict.clone()
    verdict[21] = FOOLED
    return _resealed(samples, verdict=verdict)


def _others(samples: Samples) -> Samples:
    return _resealed(samples, ids=samples.ids + 1)


def _cheaper(samples: Samples) -> Samples:
    return _resealed(samples, forwards=samples.forwards / 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_outside, r"sample 4 \(id 3004\) is outside its ball, box or grid"),
        (_another_distance, r"sample 4 \(id 3004\) lies at another distance"),
        (_another_verdict, r"sample 15 \(id 3015\) is read otherwise than recorded"),
        (_clean_again, r"sample 21 \(id 3021\) is read otherwise when clean"),
        (_others, "its samples are not those of the data"),
        (_cheaper, "the scores do not follow from the samples"),
    ],
)
def test_a_forged_sample_is_found_out(folder: Path, change: Change, said: str) -> None:
    """With a new digest and a new file hash in the record: the claim itself is checked."""
    _forged(folder, AIM, change)
    _refused(folder, f"{AIM}: {said}")


def test_all_together_must_be_the_worst_case(folder: Path) -> None:
    """The union shows the noise's weaker samples as if the attack had found nothing."""
    union = "largest-linf-0.1-all"
    noise, _ = on_disk.read(folder / CASES / "largest-linf-0.1-noise" / SAMPLES)
    _forged(folder, union, lambda samples: noise)
    found = read_records(folder / RECORDS)
    scores = {record.case: record for record in found}["largest-linf-0.1-noise"].scores
    cost = found[0].cost
    _rewritten(
        folder,
        lambda r: (
            replace(r, scores=scores, cost=replace(cost, seconds=0)) if r.case == union else r
        ),
    )
    _refused(folder, f"{union}: sample .* is not the worst case of the attacks")


def test_all_together_must_name_what_they_are_of(folder: Path) -> None:
    _rewritten(folder, lambda r: replace(r, options={"of": [AIM, "x"]}) if r.kind == "union" else r)
    _refused(folder, "not every attack that it is of is there")


def _scored(record: Record, name: str, part: str, value: float) -> dict[str, Score]:
    return {**record.scores, name: replace(record.scores[name], **{part: value})}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: {"scores": _scored(r, "robust accuracy", "value", 0.99)}, "do not follow"),
        (lambda r: {"scores": _scored(r, "clean accuracy", "high", 0.999)}, "do not follow"),
        (lambda r: {"scores": {}}, "do not follow"),
        (lambda r: {"cost": replace(r.cost, forwards=0.5)}, "do not follow"),
        (lambda r: {"threat": {**r.threat, "epsilon": 0.2}}, "not what the plan says"),
        (lambda r: {"threat": {}}, "not what the plan says"),
        (lambda r: {"options": {**r.options, "only": "odd"}}, "not what the plan says"),
        (lambda r: {"plugin": "pgd"}, "not what the plan says"),
        (lambda r: {"model": "mlp"}, "not what the plan says"),
        (lambda r: {"data": "digits"}, "not what the plan says"),
        (lambda r: {"seed": 1}, "not what the plan says"),
        (lambda r: {"case": "largest-linf-0.1-other"}, "is missing"),
        (lambda r: {"weights": "0" * 64}, "no such file"),
        (lambda r: {"data_hash": "0" * 64}, "no longer holds the samples"),
        (lambda r: {"samples": "0" * 64}, "is not the file"),
    ],
)
def test_a_changed_record_is_found_out(
    folder: Path, change: Callable[[Record], dict[str, Any]], said: str
) -> None:
    _rewritten(folder, lambda r: replace(r, **change(r)) if r.case == AIM else r)
    _refused(folder, said)


def test_a_damaged_line_of_the_records_is_a_broken_claim(folder: Path) -> None:
    text = (folder / RECORDS).read_text()
    (folder / RECORDS).write_text(text.replace('"scores"', '"scorez"', 1))
    _refused(folder, "line 1: not a record")


def test_changed_weights_are_found_out(folder: Path) -> None:
    (path,) = (folder / "models").glob("*.safetensors")
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    _refused(folder, "does not hold the weights that the run was made with")
    path.unlink()
    _refused(folder, "no such file")


def test_other_data_are_found_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FIRST", "5000")
    _refused(folder, "toy no longer holds the samples of this run")


def test_another_plan_is_found_out(folder: Path) -> None:
    """The seed, say, that the records do not know."""
    facts = json.loads((folder / PLAN).read_text())
    (folder / PLAN).write_text(json.dumps({**facts, "seed": 7}))
    _refused(folder, "not what the plan says")


def test_there_must_be_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no run"):
        list(verify(tmp_path))
