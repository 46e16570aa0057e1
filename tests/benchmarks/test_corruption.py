"""The exam of corruptions: scores that can be counted by hand, a resumed run, claims that break."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trustml.benchmarks.corruption_cases import ANSWERS, BASELINE, CLEAN, _relative
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked, size
from trustml.benchmarks.harness import resume, start
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.verify import verify
from trustml.errors import BadInput, BadOption, BrokenClaim, UnknownName
from trustml.files import file_hash
from trustml.records import read_records, to_line
from trustml.reports.table import render
from trustml.reports.tables import console

PLAN = Plan(
    models=("logistic",), corruptions=("contrast", "gaussian_noise"),
    corruption_baseline="logistic", limit=60, certify="off",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two corruptions."""
    place = tmp_path_factory.mktemp("corruption") / "run"
    list(start(PLAN, place))
    return place


def test_scores_are_what_the_answers_say(folder: Path) -> None:
    """Counted from the file by hand; the model over itself is 1 with no doubt about it."""
    records = {record.plugin: record for record in read_records(folder / "records.jsonl")}
    assert list(records) == ["contrast", "gaussian_noise", "all"]
    assert size(checked(PLAN)) == 3
    errors = []
    for name in ("contrast", "gaussian_noise"):
        found = load_file(folder / CASES / f"logistic-{name}" / SAMPLES)
        assert torch.equal(found[ANSWERS], found[BASELINE])
        right = records[name].scores["clean accuracy"].value
        y = _labels()
        assert right == pytest.approx(float((found[CLEAN] == y).double().mean()))
        for place in range(5):
            fine = float((found[ANSWERS][:, place] == y).double().mean())
            score = records[name].scores[f"accuracy at severity {place + 1}"]
            assert score.value == pytest.approx(fine)
            assert score.low <= fine <= score.high
        errors.append(float((found[ANSWERS] != y[:, None]).double().mean()))
        assert records[name].scores["corruption error"].value == pytest.approx(errors[-1])
    together = records["all"].scores
    assert together["corruption error"].value == pytest.approx(sum(errors) / 2)
    relative = together["relative corruption error"]
    assert (relative.value, relative.low, relative.high) == pytest.approx((1, 1, 1))


def _labels() -> torch.Tensor:
    from trustml.data.digits import digits

    return digits(folder=None).test.y[:60]


def test_a_ratio_of_errors_by_hand() -> None:
    """2 of 20 over 4 of 20 and 4 of 20 over 4 of 20: the mean of 0.5 and 1."""
    own, other = (torch.zeros(4, 5).double() for _ in range(2))
    own[0, :2], other[:, 0] = 1, 1
    more = other.clone()
    ratio = _relative([own, more], [other, other])
    assert ratio is not None
    assert ratio.value == pytest.approx(0.75)
    assert ratio.low < 0.75 < ratio.high
    assert _relative([own], [torch.zeros(4, 5)]) is None


def test_no_ratio_is_nothing_where_errors_were_seen() -> None:
    """One error in 20 against four: no interval may begin at 0; where none was seen, it does."""
    own, other = (torch.zeros(4, 5).double() for _ in range(2))
    own[0, 0], other[:, 0] = 1, 1
    ratio = _relative([own], [other])
    assert ratio is not None
    assert 0 < ratio.low < ratio.value < ratio.high
    none = _relative([torch.zeros(4, 5).double()], [other])
    assert none is not None
    assert none.value == none.low == 0 < none.high


def test_all_claims_hold_and_a_table_is_drawn(folder: Path) -> None:
    assert len(list(verify(folder))) == 3
    screen = console()
    with screen.capture() as shown:
        for part in render(read_records(folder / "records.jsonl")):
            screen.print(part)
    text = shown.get()
    assert "logistic on corrupted digits, errors over those of logistic" in text
    assert "under 2 corruptions" in text


def test_another_answer_is_found(folder: Path, tmp_path: Path) -> None:
    """A right answer changed, and the hash in the record with it: the model says otherwise."""
    place = tmp_path / "run"
    shutil.copytree(folder, place)
    file = place / CASES / "logistic-contrast" / SAMPLES
    found = load_file(file)
    found[ANSWERS][0, 4] = (found[ANSWERS][0, 4] + 1) % 10
    save_file(found, file)
    records = read_records(place / "records.jsonl")
    records[0] = replace(records[0], samples=file_hash(file))
    (place / "records.jsonl").write_text("".join(to_line(r) + "\n" for r in records))
    with pytest.raises(BrokenClaim, match="answers are others than recorded"):
        list(verify(place))


def test_a_score_that_does_not_follow_is_found(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(folder, place)
    records = read_records(place / "records.jsonl")
    error = records[2].scores["corruption error"]
    scores = {**records[2].scores, "corruption error": replace(error, value=error.value / 2)}
    records[2] = replace(records[2], scores=scores)
    (place / "records.jsonl").write_text("".join(to_line(r) + "\n" for r in records))
    with pytest.raises(BrokenClaim, match="do not follow from the answers"):
        list(verify(place))


def test_a_stopped_run_goes_on_to_the_same_records(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "run"
    shutil.copytree(folder, place)
    lines = (place / "records.jsonl").read_text().splitlines()
    (place / "records.jsonl").write_text(lines[0] + "\n")
    again = list(resume(place))
    known = read_records(folder / "records.jsonl")
    assert [(r.case, r.scores, r.samples) for r in again] == [
        (r.case, r.scores, r.samples) for r in known
    ]


def test_the_batch_size_changes_nothing(folder: Path, tmp_path: Path) -> None:
    plan = replace(PLAN, corruptions=("gaussian_noise",), batch_size=7, corruption_baseline="")
    again = list(start(plan, tmp_path / "run"))
    known = read_records(folder / "records.jsonl")[1]
    both = set(again[0].scores)
    assert "relative corruption error" not in both
    assert {name: known.scores[name] for name in both} == dict(again[0].scores)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"corruptions": ("fgo",)}, UnknownName, "did you mean 'fog'"),
        ({"corruptions": (), "attacks": ("fgsm",)}, BadOption, "name a --corruption"),
        ({"corruption_baseline": "logstic"}, UnknownName, "did you mean 'logistic'"),
        ({"data": "moons"}, BadInput, "corrupts pictures"),
    ],
)
def test_what_cannot_be_planned(
    changes: dict[str, object], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        list(start(replace(PLAN, **changes), tmp_path / "run"))  # type: ignore[arg-type]


def test_all_are_fifteen() -> None:
    assert len(checked(replace(PLAN, corruptions=("all",))).corruptions) == 15
