"""Transfer: attacks see a surrogate, the model itself only judges, and closed forms say how."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.benchmarks import samples as on_disk
from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.exams import checked
from trustml.benchmarks.harness import RECORDS, resume
from trustml.benchmarks.judge import Exam, judged
from trustml.benchmarks.plan import Plan
from trustml.benchmarks.samples import FOOLED
from trustml.benchmarks.surrogates import Mean, named
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Record
from trustml.errors import BadInput, BadOption, BrokenClaim
from trustml.recipes import choose
from trustml.records import read_records, to_line

Run = Callable[..., list[Record]]
WALKS = ("fgsm", "bim", "pgd:steps=10", "momentum", "apgd:steps=10")


class Parallel(nn.Module):
    """Logits parallel to the toy model's, with a bias for the first class."""

    def __init__(self, bias: float = 0.0) -> None:
        super().__init__()
        self.bias = torch.tensor([bias, 0.0, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        return 1e-3 * x[:, :3] + self.bias


def _fooled(folder: Path, case: str) -> list[int]:
    samples = on_disk.read(folder / CASES / case / SAMPLES)[0]
    return samples.ids[samples.verdict == FOOLED].tolist()


@pytest.mark.parametrize("attack", WALKS)
def test_the_model_as_its_own_surrogate_gives_the_same_verdicts(
    run: Run, tmp_path: Path, attack: str
) -> None:
    """The toy model has nothing to train, so its surrogate of another seed is itself: 10 of 22."""
    for name, lent in (("white", ()), ("lent", ("largest",))):
        records = run(name, attacks=(attack,), surrogates=lent)
        assert records[1].scores["attack success"].value == pytest.approx(0.5)
    case = f"largest-linf-0.1-{attack.split(':')[0]}"
    assert _fooled(tmp_path / "lent", case) == _fooled(tmp_path / "white", case)


@pytest.mark.parametrize("attack", WALKS)
def test_what_the_surrogate_misreads_does_not_end_the_walk(
    exam: Callable[..., Exam], attack: str
) -> None:
    """Closed form: on parallel logits the best Linf move is y down and all others up by epsilon.

    So leads below 0.2 are lost on the model itself. An attack that stopped where the surrogate
    errs would return the inputs, and fool none.
    """
    asked = exam(lambda *given, random: given[1])
    batch = asked.setting.split.at(asked.setting.right)
    surrogate = Parallel(3.0)
    lent = replace(asked.setting, module=surrogate)
    asked = replace(asked, attack=choose("attack", attack), lent=lent)
    assert (surrogate(batch.x).argmax(1) == 0).all(), "two classes of three are misread at once"
    samples, _ = judged(asked, batch)
    assert samples.ids[samples.verdict == FOOLED].tolist() == list(range(10))


def test_the_attack_never_asks_the_model_itself(exam: Callable[..., Exam]) -> None:
    """The examined model raises until the attack is over; passes are the surrogate's."""
    open_now: list[bool] = []

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        assert torch.equal(model(x), 1e-3 * x[:, :3])
        assert not bool(threat.reached(model(x), (y + 1) % 3).any()), "nothing counts as won"
        open_now.append(True)
        return x

    class Shut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert open_now, "asked by the attack"
            return x[:, :3]

    asked = exam(planted, Access.GRADIENTS)
    lent = replace(asked.setting, module=Parallel())
    asked = replace(asked, setting=replace(asked.setting, module=Shut()), lent=lent)
    samples, _ = judged(asked, asked.setting.split.at(asked.setting.right))
    assert samples.forwards.tolist() == [2.0] * len(samples)


def test_records_name_the_surrogates_and_hold(run: Run, tmp_path: Path) -> None:
    """Recipe, seed and hash of each; a run of an ensemble of three is verified."""
    records = run(attacks=("momentum",), surrogates=("largest", "mlp:epochs=1", "largest"), seed=5)
    names = list(records[1].surrogates)
    assert [name.split(":")[0] for name in names] == ["largest", "mlp", "largest"]
    assert [name.split()[-1] for name in names] == ["seed=1005", "seed=1006", "seed=1007"]
    assert all(len(weights) == 64 for weights in records[1].surrogates.values())
    assert records[1].threat["surrogates"] == [name.rsplit(" ", 1)[0] for name in names]
    assert len(list(verify(tmp_path / "run", "cpu"))) == 3


@pytest.mark.parametrize("forged", [{}, None, "weights"])
def test_other_surrogates_than_those_of_the_run_are_not_believed(
    run: Run, tmp_path: Path, forged: Any
) -> None:
    """None named; another name; another hash."""
    run(surrogates=("largest",))
    path = tmp_path / "run" / RECORDS
    records = read_records(path)
    ((name, weights),) = records[1].surrogates.items()
    said = {name: "0" * 64} if forged == "weights" else {"mlp": weights} if forged is None else {}
    records[1] = replace(records[1], surrogates=said)
    path.write_text("".join(to_line(record) + "\n" for record in records))
    with pytest.raises(BrokenClaim, match=r"is missing|no such file|not those of the plan"):
        list(verify(tmp_path / "run", "cpu"))


def test_a_stopped_transfer_goes_on_to_the_same_records(run: Run, tmp_path: Path) -> None:
    """After a kill before the last two records, and with a batch on disk."""
    whole = run(attacks=("momentum",), surrogates=("largest",))
    path = tmp_path / "run" / RECORDS
    path.write_text(path.read_text().splitlines()[0] + "\n")
    again = list(resume(tmp_path / "run"))
    for one, other in zip(whole, again, strict=True):
        assert (one.samples, one.surrogates, one.scores) == (
            other.samples, other.surrogates, other.scores,
        )  # fmt: skip


def test_a_surrogate_with_other_classes_is_one_clear_line(run: Run, tmp_path: Path) -> None:
    """`narrow` answers two classes to data of three: known before anything is written."""
    said = "--surrogate largest:broken=narrow: the model answers 2 classes; the data have 3"
    with pytest.raises(BadInput, match=said):
        run("narrow", surrogates=("largest:broken=narrow",))
    assert not (tmp_path / "narrow").exists()


def test_what_surrogates_are_not_for(plan: Plan) -> None:
    with pytest.raises(BadOption, match="--surrogate is about attacks: name an --attack"):
        checked(replace(plan, attacks=(), detectors=("energy",), surrogates=("mlp",)))
    with pytest.raises(BadOption, match="--curve follows the border of the model itself"):
        checked(replace(plan, attacks=("fmn",), curve=True, surrogates=("mlp",)))


def test_seeds_lie_apart(plan: Plan) -> None:
    """Two surrogates of one recipe are two models, and neither is the examined one."""
    wanted = named(replace(plan, surrogates=("mlp", "mlp")), 7)
    assert [seed for _, seed in wanted.values()] == [1007, 1008]
    found = checked(replace(plan, surrogates=("mlp", "mlp")))
    assert len(found.surrogates) == 2
    assert checked(found) == found


def test_an_ensemble_fuses_logits() -> None:
    """Closed form: the mean of log probabilities is that of logits but for one shift a sample."""
    x = torch.randn(5, 4)
    parts = [nn.Linear(4, 3) for _ in range(3)]
    fused = Mean(parts)(x)
    mean = torch.stack([part(x) for part in parts]).mean(0)
    shift = fused - mean
    assert torch.allclose(shift, shift[:, :1].expand(-1, 3), atol=1e-6)
    y = torch.tensor([0, 1, 2, 0, 1])
    losses = [nn.functional.cross_entropy(logits, y, reduction="none") for logits in (fused, mean)]
    assert torch.allclose(*losses, atol=1e-6)


def test_models_that_show_labels_vote() -> None:
    class Says(nn.Module):
        access = Access.LABELS

        def __init__(self, label: int) -> None:
            super().__init__()
            self.label = label

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.one_hot(torch.full((len(x),), self.label), 3).float()

    votes = Mean([Says(0), Says(2), Says(2)])(torch.zeros(1, 4))
    assert torch.allclose(votes, torch.tensor([[1 / 3, 0, 2 / 3]]))


def test_records_from_before_know_no_surrogates(run: Run, tmp_path: Path) -> None:
    """A line of schema 1, without the word, reads back as one of an attack on the model itself."""
    run()
    path = tmp_path / "run" / RECORDS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(line.pop("surrogates") == {} for line in lines)
    lines = [{**line, "schema": 1} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert all(record.surrogates == {} for record in read_records(path))
    assert len(list(verify(tmp_path / "run", "cpu"))) == 3
