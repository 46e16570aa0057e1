"""The harness: a plan in, records out, whose numbers are known by hand for the toys."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trustml.benchmarks import attacked, harness, setting
from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import RECORDS, finished, resume
from trustml.benchmarks.plan import PLAN, Plan
from trustml.benchmarks.samples import CLEAN_WRONG, FOOLED, Samples
from trustml.contracts import Cost, Record
from trustml.errors import BadInput, BrokenClaim, DiskFull, UnknownName, UsageError
from trustml.files import locked

Run = Callable[..., list[Record]]


def _samples(folder: Path, case: str) -> Samples:
    return on_disk.read(folder / CASES / case / SAMPLES)[0]


def _timeless(records: list[Record]) -> list[Record]:
    """Return the records without what two runs cannot share: seconds, and a commit in between."""
    return [
        replace(r, cost=replace(r.cost, seconds=0.0), place={**r.place, "commit": ""})
        for r in records
    ]


def test_the_records_are_the_closed_form(run: Run, tmp_path: Path) -> None:
    """Of 22 samples 2 are wrong; 10 have a lead below 0.2 and are lost; noise loses fewer."""
    noise, aim, union = run()
    assert [r.case for r in (noise, aim, union)] == [
        "largest-linf-0.1-noise", "largest-linf-0.1-aim", "largest-linf-0.1-all",
    ]  # fmt: skip
    assert [r.kind for r in (noise, aim, union)] == ["attack", "attack", "union"]
    assert all(record.status == "done" for record in (noise, aim, union))
    for record in (aim, union):
        assert record.scores["clean accuracy"].value == pytest.approx(20 / 22)
        assert record.scores["robust accuracy"].value == pytest.approx(10 / 22)
        assert record.scores["attack success"].value == pytest.approx(0.5)
    assert noise.scores["attack success"].value < 0.5
    assert aim.cost.forwards == 1.0
    assert aim.options == {"only": "all", "shape": [1, 2]}
    samples = _samples(tmp_path / "run", aim.case)
    assert samples.ids.tolist() == list(range(3000, 3022))
    assert samples.verdict.tolist() == [FOOLED] * 10 + [0] * 10 + [CLEAN_WRONG] * 2


def test_what_is_yielded_is_what_is_written(run: Run, tmp_path: Path) -> None:
    """Tuples among the options included."""
    assert run() == finished(tmp_path / "run")


def test_noise_is_the_first_row_even_unasked(run: Run) -> None:
    assert [record.plugin for record in run(attacks=("still", "aim"))] == [
        "noise", "still", "aim", "all",
    ]  # fmt: skip
    asked = run("other", attacks=("aim", "noise:draws=3"))
    assert [record.plugin for record in asked] == ["aim", "noise", "all"]
    assert asked[1].options == {"draws": 3}


def test_an_attack_weaker_than_noise_is_marked(run: Run) -> None:
    """`still` fools nobody; random points fool those with the smallest leads."""
    noise, still, aim, _ = run(attacks=("still", "aim"))
    assert noise.scores["attack success"].value > 0
    assert any("weaker than random noise" in note for note in still.notes)
    assert not any("weaker than random noise" in note for note in (*noise.notes, *aim.notes))


def test_all_together_are_the_worst_case(run: Run, tmp_path: Path) -> None:
    """One attack fools odd samples only, one even samples only: together all that can be fooled."""
    _, odd, even, union = run(attacks=("aim:only=odd", "aim:only=even"))
    for one in (odd, even):
        assert one.scores["attack success"].value == pytest.approx(5 / 20)
    assert union.scores["attack success"].value == pytest.approx(10 / 20)
    assert union.options["of"] == [
        "largest-linf-0.1-noise", "largest-linf-0.1-aim", "largest-linf-0.1-aim-2",
    ]  # fmt: skip
    verdicts = [_samples(tmp_path / "run", r.case).verdict for r in (odd, even, union)]
    assert torch.equal(torch.maximum(verdicts[0], verdicts[1]), verdicts[2])


def test_a_failed_attack_stops_no_other(run: Run) -> None:
    """Failed and skipped cases say why, in one line; all together says whom it is without."""
    records = {record.plugin: record for record in run(attacks=("fails", "unfit", "aim"))}
    assert (records["fails"].status, records["unfit"].status) == ("failed", "skipped")
    assert "fails raised KeyError: " in records["fails"].reason
    assert records["unfit"].reason == "it needs a tree"
    assert records["aim"].status == records["all"].status == "done"
    assert records["all"].scores["attack success"].value == pytest.approx(0.5)
    assert any("without fails, unfit" in note for note in records["all"].notes)
    assert "fails" not in str(records["all"].options)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("nan", "NaN or infinity to a clean input"),
        ("narrow", "2 classes; the data have 3"),
        ("raises", "ValueError: no answer at all"),
    ],
)
def test_a_model_that_cannot_be_examined_fails_its_cases_only(
    run: Run, broken: str, said: str
) -> None:
    records = run(models=(f"largest:broken={broken}", "largest"))
    assert [record.status for record in records] == ["failed"] * 3 + ["done"] * 3
    assert all(said in record.reason for record in records[:3])
    assert all("\n" not in record.reason for record in records)


def test_a_grid_has_a_table_for_each_model_and_budget(run: Run) -> None:
    """Robust accuracy by hand: 20 right, leads below 2 ε are lost; worst case per group."""
    records = run(models=("largest", "largest:broken=not"), epsilons=(0.05, 0.15))
    assert len(records) == 12
    wanted = {0.05: 15 / 22, 0.15: 5 / 22}
    for record in records:
        if record.plugin != "noise":
            robust = record.scores["robust accuracy"].value
            assert robust == pytest.approx(wanted[record.threat["epsilon"]])


def test_limit_shard_and_order_choose_the_samples(run: Run, tmp_path: Path) -> None:
    run("limit", limit=5)
    run("shard", shard=(1, 3))
    run("both", shard=(1, 3), limit=5, order="reversed")
    ids = {
        name: _samples(tmp_path / name, "largest-linf-0.1-aim").ids.tolist()
        for name in ("limit", "shard", "both")
    }
    assert ids["limit"] == [3000, 3001, 3002, 3003, 3004]
    assert ids["shard"] == list(range(3001, 3022, 3))
    assert ids["both"] == [3004, 3001]


def test_an_empty_shard_is_refused(run: Run) -> None:
    """It would have no accuracy at all."""
    with pytest.raises(BadInput, match="--shard 5/10 of 3 samples is empty"):
        run(shard=(5, 10), limit=3)


def test_a_model_that_reads_nothing_rightly_has_nothing_to_attack(run: Run) -> None:
    """The last two samples are wrong before any attack: no success rate, and nobody is asked."""
    _, aim, union = run(shard=(21, 22))
    assert aim.status == union.status == "done"
    assert aim.scores["robust accuracy"].value == aim.scores["clean accuracy"].value == 0
    assert "attack success" not in aim.scores
    assert aim.cost.forwards == 0


def test_a_target_is_reached_or_not(run: Run) -> None:
    """The wanted class, the next one, gains 0.1 and the true one does not fall: leads below 0.2."""
    records = run(target="next", attacks=("pgd",))
    assert records[1].threat["target"] == "next"
    assert records[1].scores["attack success"].value == pytest.approx(0.5)


def test_a_folder_that_is_in_use_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    with pytest.raises(BadInput, match="full is not empty"):
        run("full")
    (tmp_path / "file").write_text("dear")
    with pytest.raises(BadInput, match="file: Not a directory"):
        run("file")
    run("run")
    with pytest.raises(BadInput, match=r"holds a run; .*--resume"):
        run("run")
    with locked(tmp_path / "held"), pytest.raises(BadInput, match="another trustml is at work"):
        run("held")


def test_what_a_kill_leaves_before_the_plan_is_no_obstacle(run: Run, tmp_path: Path) -> None:
    """A lock and half a plan: neither a run to resume nor anything of value."""
    (tmp_path / "run").mkdir()
    for name in (".lock", f".{PLAN}.4711"):
        (tmp_path / "run" / name).write_text("")
    assert len(run()) == 3


def test_nothing_is_written_for_a_plan_that_cannot_be(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        run(attacks=("aims",))
    assert not (tmp_path / "run").exists()


def _stopped(run: Run, monkeypatch: pytest.MonkeyPatch, after: int, **changes: Any) -> None:
    """Run until `after` batches are judged, then be interrupted."""
    judged, count = attacked.judged, 0

    def counting(*given: Any) -> Any:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return judged(*given)

    with monkeypatch.context() as patch:
        patch.setattr(attacked, "judged", counting)
        with pytest.raises(KeyboardInterrupt):
            run(**changes)


@pytest.mark.parametrize("after", [0, 1, 3, 7, 9])
def test_a_stopped_run_goes_on_where_it_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Batches of 5 make 4 for each of 2 attacks and 3 more; finished ones are not judged again."""
    whole = run("whole", attacks=("aim", "still"), batch_size=5)
    _stopped(run, monkeypatch, after, attacks=("aim", "still"), batch_size=5)
    assert len(finished(tmp_path / "run")) == after // 4
    judged, calls = attacked.judged, []

    def counting(*given: Any) -> Any:
        calls.append(given)
        return judged(*given)

    monkeypatch.setattr(attacked, "judged", counting)
    again = list(resume(tmp_path / "run"))
    assert len(calls) == 12 - after
    assert _timeless(again) == _timeless(whole)
    assert list(resume(tmp_path / "run")) == again, "a finished run stays as it is"


def test_a_damaged_batch_is_done_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run("whole", batch_size=5)
    _stopped(run, monkeypatch, 6, batch_size=5)
    (batch, *_) = sorted((tmp_path / "run").glob("cases/*/batches/*.safetensors"))
    batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    assert _timeless(list(resume(tmp_path / "run"))) == _timeless(whole)


def test_batches_that_a_kill_left_beside_their_record_are_cleared(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the record was written and before its batches were taken away."""
    with monkeypatch.context() as patch:
        patch.setattr(harness.shutil, "rmtree", lambda *given, **facts: None)
        records = run(batch_size=5)
    assert list((tmp_path / "run").rglob("batches"))
    assert list(resume(tmp_path / "run")) == records
    assert not list((tmp_path / "run").rglob("batches"))


def test_notes_of_batches_survive_a_stop(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was said of a batch before the stop belongs to the record after it."""
    judged = attacked.judged

    def remarking(*given: Any) -> Any:
        samples, made = judged(*given)
        return samples, replace(made, notes=("out of memory: batch halved to 3",))

    monkeypatch.setattr(attacked, "judged", remarking)
    _stopped(run, monkeypatch, 6, batch_size=5)
    monkeypatch.setattr(attacked, "judged", judged)
    assert "out of memory: batch halved to 3" in list(resume(tmp_path / "run"))[1].notes


def test_a_resumed_run_keeps_the_weights_it_began_with(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another training in between, or an empty cache, must not mix two models in one run."""
    _stopped(run, monkeypatch, 6, batch_size=5)

    def never(*given: Any) -> Any:
        raise AssertionError("the model was trained or fetched again")

    monkeypatch.setattr(setting, "trained", never)
    records = list(resume(tmp_path / "run"))
    assert len({record.weights for record in records}) == 1


def test_a_run_whose_data_have_changed_is_not_continued(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stopped(run, monkeypatch, 6, batch_size=5)
    monkeypatch.setenv("TOY_FIRST", "4000")
    with pytest.raises(BadInput, match="no longer holds the samples that this run began with"):
        list(resume(tmp_path / "run"))


def test_what_a_resumed_run_lacks_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples of a finished case, or the weights, were deleted: nothing can be made of that."""
    run()
    folder = tmp_path / "run"
    records = (folder / RECORDS).read_text().splitlines(keepends=True)
    (folder / RECORDS).write_text("".join(records[:2]))
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder / CASES / "largest-linf-0.1-aim")
    with pytest.raises(BrokenClaim, match=r"aim/samples.safetensors is missing"):
        list(resume(folder))
    for file in (tmp_path / "copy" / "models").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(BrokenClaim, match="no such file"):
        list(resume(tmp_path / "copy"))


def test_a_full_disk_ends_the_run_and_fails_no_case(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room again, the run goes on as if nothing had been."""
    for place in ("samples.write_whole", "setting.write_whole"):
        folder = f"run-{place}"
        with monkeypatch.context() as patch:

            def full(*given: Any) -> None:
                raise DiskFull("the disk is full")

            patch.setattr(f"trustml.benchmarks.{place}", full)
            with pytest.raises(DiskFull):
                run(folder)
        assert finished(tmp_path / folder) == []
        assert [r.status for r in resume(tmp_path / folder)] == ["done"] * 3


def test_no_run_can_be_resumed_or_shown_where_there_is_none(tmp_path: Path) -> None:
    for use in (finished, lambda folder: list(resume(folder))):
        with pytest.raises(BadInput, match="holds no run"):
            use(tmp_path)


def test_verdicts_depend_on_nothing_but_the_sample(run: Run, tmp_path: Path) -> None:
    """Batch size, order and shards: the same verdict and the same bytes for each sample id."""
    attacks = ("aim", "pgd:steps=5", "noise")
    run("one", attacks=attacks)
    run("small", attacks=attacks, batch_size=3)
    run("reversed", attacks=attacks, order="reversed", batch_size=7)
    for index in (0, 1):
        run(f"shard{index}", attacks=attacks, shard=(index, 2))
    for case in ("noise", "aim", "pgd", "all"):
        name = f"largest-linf-0.1-{case}"
        truth = _by_id(_samples(tmp_path / "one", name))
        shards = [_by_id(_samples(tmp_path / f"shard{i}", name)) for i in (0, 1)]
        assert shards[0] | shards[1] == truth
        for other in ("small", "reversed"):
            assert _by_id(_samples(tmp_path / other, name)) == truth


def _by_id(samples: Samples) -> dict[int, bytes]:
    """Return sample id → digest over verdict, input, distances and passes."""
    pairs = zip(samples.ids.tolist(), samples.digest, strict=True)
    return {name: digest.numpy().tobytes() for name, digest in pairs}


def test_a_record_says_what_it_takes_to_run_it_again(run: Run, plan: Plan, tmp_path: Path) -> None:
    record = run(seed=3)[1]
    assert record.seed == 3
    assert record.model.startswith("largest:broken=")
    assert record.data == "toy"
    assert len(record.weights) == len(record.data_hash) == len(record.samples) == 64
    box = {"norm": "linf", "epsilon": 0.1, "target": "none", "low": 0.0, "high": 1.0}
    assert box.items() <= record.threat.items()
    assert {"device", "torch", "python", "trustml", "commit", "threads"} <= set(record.place)
    assert isinstance(record.cost, Cost)
    assert json.loads((tmp_path / "run" / PLAN).read_text())["seed"] == 3


def test_what_failed_is_tried_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server is down during one attack: resumed, the run is that of one that never was down.

    The worst case of all is made again, too: it was about rows that have changed.
    """
    whole = run(folder=tmp_path / "whole")
    examined = harness._examined

    def down(running: Any, case: Any) -> Record:
        record = examined(running, case)
        if case.plugin != "aim":
            return record
        return replace(record, status="failed", reason="no answer", scores={}, samples="")

    with monkeypatch.context() as patched:
        patched.setattr(harness, "_examined", down)
        broken = run(folder=tmp_path / "broken")
    assert [record.status for record in broken] == ["done", "failed", "skipped"]
    assert _timeless(list(resume(tmp_path / "broken"))) == _timeless(whole)
    assert _timeless(finished(tmp_path / "broken")) == _timeless(whole)
    lines = (tmp_path / "broken" / RECORDS).read_text().splitlines()
    assert len(lines) == 5  # the broken row and the old worst case are kept, but count no more
    list(resume(tmp_path / "broken"))
    assert len((tmp_path / "broken" / RECORDS).read_text().splitlines()) == 5


def test_a_worst_case_that_a_kill_left_behind_is_made_again(run: Run, tmp_path: Path) -> None:
    """The kill came after the second try of the attack, and before its worst case was made."""
    whole = run(folder=tmp_path / "whole")
    path = tmp_path / "whole" / RECORDS
    lines = path.read_text().splitlines(keepends=True)
    stale = lines[2].replace('"value": 0.', '"value": 0.1', 1)
    path.write_text("".join([*lines[:2], stale, lines[1]]))
    assert _timeless(list(resume(tmp_path / "whole"))) == _timeless(whole)


def test_a_request_that_proves_to_be_none_leaves_nothing(tmp_path: Path) -> None:
    """A class that no trigger can aim at is found out by the poison itself, after the plan."""
    plan = Plan(("logistic:epochs=1",), poisons=("badnets:target=12",), limit=10, device="cpu")
    with pytest.raises(UsageError):
        list(harness.start(plan, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_model_that_sends_inputs_to_a_person_says_so(tmp_path: Path) -> None:
    """Attacks are judged by its answers: a reader must know that refusals are not counted."""
    model = "logistic:epochs=2+abstain:rate=0.2"
    plan = Plan((model,), attacks=("fgsm",), limit=40, indicators=False, device="cpu")
    *_, union = harness.start(plan, tmp_path / "run")
    assert any("of these inputs to a person" in note for note in union.notes)
