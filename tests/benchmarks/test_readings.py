"""Models that answer at random: found, attacked by mean losses, read often, checked again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trustml.access import Handed
from trustml.attacks._pursuit import look
from trustml.attacks._quarry import Quarry
from trustml.benchmarks.blocks import varies
from trustml.benchmarks.harness import RECORDS, resume
from trustml.benchmarks.readings import mean_score, misread
from trustml.benchmarks.samples import ROBUST
from trustml.benchmarks.verify import verify
from trustml.contracts import Access, Record, Split
from trustml.errors import BrokenClaim, BudgetSpent
from trustml.randomness import keyed
from trustml.registry import get, load_file
from trustml.threats import Lp

from .test_verify import _forged, _resealed

HERE = Path(__file__).parent
FILES = (str(HERE / "toys.py"), str(HERE / "dice.py"))
Run = Callable[..., list[Record]]


@pytest.fixture(autouse=True)
def dice(toys: Any) -> None:
    load_file(FILES[1])


@pytest.fixture
def ran(run: Run) -> Run:
    def runs(folder: str = "run", kind: str = "coin", **changes: Any) -> list[Record]:
        facts = {"models": (f"dice:kind={kind}",), "plugins": FILES, "indicators": True}
        return run(folder, **{**facts, **changes})

    return runs


def _model(kind: str, chance: float = 0.1) -> nn.Module:
    return get("model", "dice").function(None, kind=kind, chance=chance)


def _split(count: int) -> Split:
    return Split(torch.eye(3)[torch.arange(count) % 3], torch.arange(count) % 3,
                 torch.arange(count), 3)  # fmt: skip


@pytest.mark.parametrize(("kind", "random"), [("coin", True), ("turns", True), ("same", False)])
def test_what_answers_at_random_is_found(kind: str, random: bool) -> None:
    """Equal questions, asked four times; a draw that equal inputs share is no chance."""
    assert varies(_model(kind), torch.rand(40, 3)) is random


def test_readings_are_draws_of_each_sample() -> None:
    """Closed form: a share of 0.1 is wrong, (1 - 0.1)^8 of samples never are; 4 deviations each.

    And a sample's readings depend neither on its batch nor on what was drawn before.
    """
    split = _split(600)

    def wrong(logits: Tensor, y: Tensor) -> Tensor:
        return logits.argmax(1) != y

    shares = misread(_model("coin"), split, wrong, (0, 8))
    assert float(shares.mean()) == pytest.approx(0.1, abs=4 * (0.09 / 4800) ** 0.5)
    never = 0.9**8
    assert float((shares == 0).double().mean()) == pytest.approx(
        never, abs=4 * (never * (1 - never) / 600) ** 0.5
    )
    torch.rand(7)
    rows = torch.tensor([300, 5, 77])
    assert torch.equal(misread(_model("coin"), split.at(rows), wrong, (0, 8)), shares[rows])
    assert not torch.equal(misread(_model("coin"), split, wrong, (1, 8)), shares)
    score = mean_score(shares)
    assert score.value == pytest.approx(1 - float(shares.mean()))
    assert score.low < score.value < score.high


def test_losses_are_averaged_not_logits() -> None:
    """Closed form: the gradient is the mean of each draw's own; counted as so many passes."""
    torch.manual_seed(0)
    parts = [torch.randn(4, 3) for _ in range(5)]

    class InTurn(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x @ parts[(self.calls - 1) % 5]

    x, y = torch.rand(6, 4), torch.arange(6) % 3
    model = Handed(InTurn(), Access.GRADIENTS, 6, readings=5)
    quarry = Quarry(x, y, Lp("linf", 0.1), keyed(0, torch.arange(6)))
    seen = look(model, x, quarry, lambda z, q: cross_entropy(z, q.y, reduction="none"))
    point = x.clone().requires_grad_()
    losses = torch.stack([cross_entropy(point @ w, y, reduction="none") for w in parts]).mean(0)
    (gradient,) = torch.autograd.grad(losses.sum(), point)
    assert torch.allclose(seen.losses, losses.detach(), atol=1e-6)
    assert torch.allclose(seen.gradient, gradient, atol=1e-6)
    assert model.forwards.tolist() == model.backwards.tolist() == [5.0] * 6


def test_those_without_gradients_get_mean_probabilities() -> None:
    """Two answers in turn, (0.9, 0.1) and (0.2, 0.8): on average (0.55, 0.45)."""

    class InTurn(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return torch.tensor([[0.9, 0.1], [0.2, 0.8]])[self.calls % 2].log().expand(len(x), 2)

    x = torch.zeros(1, 2)
    told = Handed(InTurn(), Access.PROBABILITIES, 1, readings=2)(x)
    assert torch.allclose(told, torch.tensor([[0.55, 0.45]]))
    assert Handed(InTurn(), Access.LABELS, 1, readings=2)(x).tolist() == [[1.0, 0.0]]
    with pytest.raises(BudgetSpent):
        Handed(InTurn(), Access.LABELS, 1, budget=1, readings=2)(x)


@pytest.mark.parametrize("kind", ["coin", "turns"])
def test_a_run_says_so_and_is_the_worst_of_its_readings(
    ran: Run, tmp_path: Path, kind: str
) -> None:
    """A model that turns at every other call never reads a sample rightly eight times."""
    records = ran(kind=kind, attacks=("pgd:steps=3",))
    for record in records[:2]:
        assert "this model answers at random" in " ".join(record.notes)
        assert "attacks average 8 losses" in " ".join(record.notes)
        assert not any("place in the batch" in note for note in record.notes)
    last = records[-1].scores
    assert last["robust accuracy"].value <= last["robust accuracy, mean of 8 readings"].value
    assert last["clean accuracy"].value <= last["clean accuracy, mean of 8 readings"].value
    if kind == "turns":
        assert last["clean accuracy"].value == 0
        assert last["clean accuracy, mean of 8 readings"].value == pytest.approx(0.5)
    assert len(list(verify(tmp_path / "run", "cpu"))) == 3


def test_a_model_that_draws_the_same_is_read_once(ran: Run) -> None:
    """Its records are those of any model."""
    records = ran(kind="same", attacks=("pgd:steps=3",))
    assert set(records[1].scores) == set(ran("other", models=("largest",))[1].scores)
    assert not any("random" in note for record in records for note in record.notes)


def test_the_plan_says_how_often(ran: Run, tmp_path: Path) -> None:
    """One reading is one draw; of 3 the mean is a third, two thirds or whole."""
    records = ran(eot=3, attacks=("pgd:steps=3",))
    assert "robust accuracy, mean of 3 readings" in records[-1].scores
    assert records[1].cost.forwards >= 3
    once = ran("other", eot=1, attacks=("pgd:steps=3",))
    assert once[1].cost.forwards < records[1].cost.forwards
    assert not any("mean of" in name for name in once[-1].scores)
    assert "each sample is read once: --eot asks more" in " ".join(once[1].notes)
    for folder in ("run", "other"):
        assert len(list(verify(tmp_path / folder, "cpu"))) == 3


def test_verdicts_do_not_depend_on_batches_and_a_stop_changes_nothing(
    ran: Run, tmp_path: Path
) -> None:
    """Readings are seeded by sample, so that the noise row's verdicts on equal points agree."""
    whole = ran(attacks=("aim",))
    small = ran("small", attacks=("aim",), batch_size=3)
    assert whole[1].scores == small[1].scores
    path = tmp_path / "run" / RECORDS
    path.write_text(path.read_text().splitlines()[0] + "\n")
    again = list(resume(tmp_path / "run"))
    assert [r.scores for r in again] == [r.scores for r in whole]
    assert [r.samples for r in again] == [r.samples for r in whole]


@pytest.mark.parametrize("kind", ["coin", "turns"])
def test_a_forged_verdict_is_not_believed(ran: Run, tmp_path: Path, kind: str) -> None:
    """Of a model that no seed repeats at least the number of the misread must be about right."""
    case = ran(kind=kind, attacks=("aim",))[1].case
    said = {"turns": "more than chance does", "coin": "is read otherwise than recorded"}[kind]

    def change(samples: Any) -> Any:
        return _resealed(samples, verdict=torch.full_like(samples.verdict, ROBUST))

    _forged(tmp_path / "run", case, change)
    with pytest.raises(BrokenClaim, match=said):
        list(verify(tmp_path / "run", "cpu"))


def test_nothing_is_proved_of_a_random_model(ran: Run) -> None:
    records = ran(attacks=("aim",), certify="auto")
    assert records[0].status == "skipped"
    assert "answers at random" in records[0].reason
