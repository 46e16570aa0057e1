"""The judge: nothing that an attack does or returns can make it say more than is so."""

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.benchmarks.judge import Exam, judged
from trustml.benchmarks.samples import FOOLED, NORMS, Samples
from trustml.contracts import Access, Split
from trustml.errors import BudgetSpent, MethodFailed
from trustml.geometry import distance

Make = Callable[..., Exam]


def _batch(exam: Exam) -> Split:
    """Return the samples that the toy model reads rightly: leads 0.01, 0.03, … 0.39."""
    return exam.setting.split.at(exam.setting.right)


def _fooled(samples: Samples) -> list[int]:
    return samples.ids[samples.verdict == FOOLED].tolist()


def _aimed(x: Tensor, y: Tensor, size: float) -> Tensor:
    rows, moved = torch.arange(len(x)), x.clone()
    moved[rows, y] -= size
    moved[rows, (y + 1) % 3] += size
    return moved


def test_the_verdict_is_the_closed_form(exam: Make) -> None:
    """Two coordinates move by 0.1 each, so leads below 0.2 are lost: samples 0 to 9."""
    asked = exam(lambda model, x, y, threat, /, *, random: _aimed(x, y, threat.epsilon))
    samples, made = judged(asked, _batch(asked))
    assert _fooled(samples) == list(range(10))
    assert made.notes == ()
    assert made.seconds > 0
    for place, norm in enumerate(NORMS):
        far = distance(samples.adversarial, _batch(asked).x, norm)
        assert torch.equal(samples.distances[:, place], far)


def test_what_is_outside_is_projected_first(exam: Make) -> None:
    """A move of 5 counts for no more than the 0.1 that is allowed, in the box too."""
    asked = exam(lambda model, x, y, threat, /, *, random: _aimed(x, y, 5.0))
    samples, _ = judged(asked, _batch(asked))
    assert _fooled(samples) == list(range(10))
    assert asked.threat.contains(samples.adversarial, _batch(asked).x).all()
    assert samples.adversarial.min() >= 0


def test_an_attack_that_claims_success_is_not_believed(exam: Make) -> None:
    """It overwrites the labels and inputs that it was given: those that are judged are others."""

    def cheat(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        y.add_(1).remainder_(3)
        x.add_(0.3)
        return x

    asked = exam(cheat)
    batch = _batch(asked)
    before = batch.x.clone(), batch.y.clone()
    samples, _ = judged(asked, batch)
    assert _fooled(samples) == []
    assert torch.equal(batch.x, before[0])
    assert torch.equal(batch.y, before[1])


def test_a_targeted_goal_is_the_wanted_class(exam: Make) -> None:
    """With `next` the goal is (y + 1) mod 3; a sample of the wanted class aims at the one after."""
    seen: list[Tensor] = []

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        seen.append(y)
        rows, moved = torch.arange(len(x)), x.clone()
        moved[rows, y] += 1.0
        return moved

    asked = exam(planted, target="next", epsilon=0.2)
    batch = _batch(asked)
    samples, _ = judged(asked, batch)
    assert torch.equal(seen[0], (batch.y + 1) % 3)
    assert _fooled(samples) == list(range(10)), "one coordinate moves by 0.2"
    asked = exam(planted, target="1", epsilon=0.2)
    judged(asked, batch)
    assert torch.equal(seen[1], torch.where(batch.y == 1, 2, 1))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: torch.full_like(x, torch.nan), "NaN or infinity for 20 samples"),
        (lambda x: x.index_fill(0, torch.tensor([3]), torch.inf), "infinity for 1 samples"),
        (lambda x: x.double() + 1e300, "NaN or infinity"),
        (lambda x: x[:1], r"shape \(1, 4\), not \(20, 4\)"),
        (lambda x: x.flatten(), r"shape \(80,\)"),
        (lambda x: x.round().long(), "torch.int64, not a floating type"),
        (lambda x: x.to(torch.complex64), "torch.complex64, not a floating type"),
        (lambda x: x.numpy(), "ndarray, not a tensor"),
        (lambda x: None, "NoneType, not a tensor"),
    ],
)
def test_what_is_no_candidate_is_refused(
    exam: Make, answer: Callable[[Tensor], Any], said: str
) -> None:
    asked = exam(_answering(answer))
    with pytest.raises(MethodFailed, match=said):
        judged(asked, _batch(asked))


def _answering(answer: Callable[[Tensor], Any]) -> Callable[..., Any]:
    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Any:
        return answer(x)

    return planted


def test_other_precisions_and_graphs_are_welcome(exam: Make) -> None:
    """What can be read as float32 is, and what hangs on the candidate is dropped."""
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        asked = exam(_answering(methodcaller("to", kind)))
        assert judged(asked, _batch(asked))[0].adversarial.dtype == torch.float32
    asked = exam(lambda model, x, y, threat, /, *, random: x.clone().requires_grad_() * 1.0)
    assert not judged(asked, _batch(asked))[0].adversarial.requires_grad


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a\nb"),
        SystemExit(3),
        AssertionError(),
        ValueError("out of memory"),
        RecursionError("x"),
    ],
)
def test_whatever_an_attack_raises_is_one_line(exam: Make, error: BaseException) -> None:
    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        raise error

    asked = exam(planted)
    with pytest.raises(MethodFailed, match=f"^planted raised {type(error).__name__}: .*$"):
        judged(asked, _batch(asked))


def test_a_stop_is_no_failure(exam: Make) -> None:
    """Ctrl-C must reach the command line."""

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        raise KeyboardInterrupt

    asked = exam(planted)
    with pytest.raises(KeyboardInterrupt):
        judged(asked, _batch(asked))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("can't allocate memory"),
    ],
)
def test_a_batch_too_large_for_memory_is_halved(exam: Make, error: BaseException) -> None:
    """20 → 10 → 5 fit; the verdicts are those of the whole batch, and the notes say so."""
    sizes: list[int] = []

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        sizes.append(len(x))
        if len(x) > 6:
            raise error
        return _aimed(x, y, threat.epsilon)

    asked = exam(planted)
    samples, made = judged(asked, _batch(asked))
    assert sizes == [20, 10, 5, 5, 10, 5, 5]
    assert samples.ids.tolist() == list(range(20))
    assert _fooled(samples) == list(range(10))
    assert made.notes == ("out of memory: batch halved to 10", "out of memory: batch halved to 5")


def test_one_sample_too_large_for_memory_is_a_failure(exam: Make) -> None:
    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        raise torch.OutOfMemoryError("no")

    asked = exam(planted)
    with pytest.raises(MethodFailed, match="out of memory with a single sample"):
        judged(asked, _batch(asked))


def test_the_budget_is_in_force(exam: Make) -> None:
    """Three calls are three queries for each sample; with a budget of two the third is refused."""

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        for _ in range(3):
            model(x)
        return x

    asked = exam(planted, budget=3)
    samples, _ = judged(asked, _batch(asked))
    assert samples.forwards.tolist() == [3.0] * 20
    asked = exam(planted, budget=2)
    with pytest.raises(BudgetSpent, match="2 queries a sample"):
        judged(asked, _batch(asked))


def test_an_attack_that_can_ask_less_is_told_how(exam: Make) -> None:
    """Its own option is named, with what the budget leaves it."""

    def planted(
        model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any, queries: int = 3
    ) -> Tensor:
        for _ in range(queries):
            model(x)
        return x

    asked = exam(planted, budget=2)
    with pytest.raises(BudgetSpent, match=r"--attack \S+:queries=2$"):
        judged(asked, _batch(asked))


def test_queries_are_counted_to_the_samples_that_were_asked_about(exam: Make) -> None:
    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        rows = torch.arange(5)
        again = x.clone().requires_grad_()
        model(again).sum().backward()
        model.at(rows)(x[rows])
        return x

    asked = exam(planted, Access.GRADIENTS)
    samples, _ = judged(asked, _batch(asked))
    assert samples.forwards.tolist() == [2.0] * 5 + [1.0] * 15
    assert samples.backwards.tolist() == [1.0] * 20


@pytest.mark.parametrize("needs", [Access.LABELS, Access.TOP1, Access.PROBABILITIES, Access.LOGITS])
def test_an_attack_gets_no_more_than_it_declared(exam: Make, needs: Access) -> None:
    """Below GRADIENTS there is no graph, and each level hides what the next one shows."""
    seen: dict[str, Any] = {}

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        answer = model(x.clone().requires_grad_())
        seen["answer"], seen["graph"] = answer, answer.requires_grad
        return x

    asked = exam(planted, needs)
    batch = _batch(asked)
    judged(asked, batch)
    logits = asked.setting.module(batch.x).detach()
    top = torch.nn.functional.one_hot(logits.argmax(1), 3)
    shown = {
        Access.LOGITS: logits,
        Access.PROBABILITIES: logits.softmax(1),
        Access.TOP1: logits.softmax(1) * top,
        Access.LABELS: top.float(),
    }
    assert not seen["graph"]
    torch.testing.assert_close(seen["answer"], shown[needs])


def test_the_model_is_left_as_it_was(exam: Make) -> None:
    """In its mode, with its gradients wanted, and without any left behind."""

    def planted(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        x = x.requires_grad_()
        model(x).sum().backward()
        return x

    asked = exam(planted, Access.GRADIENTS)
    module = asked.setting.module.train()
    judged(asked, _batch(asked))
    assert module.training
    assert all(weight.requires_grad and weight.grad is None for weight in module.parameters())


def test_float32_goes_on_where_a_reduced_search_has_failed(exam: Make) -> None:
    """First call: even ids win; second call, about the others alone: all that can be won are."""
    asked: list[int] = []

    def late(model: Any, x: Tensor, y: Tensor, threat: Any, /, *, random: Any) -> Tensor:
        asked.append(len(x))
        moved = _aimed(x, y, 0.1)
        if len(asked) == 1:
            moved[x[:, 3] == 1] = x[x[:, 3] == 1]
        return moved

    made = exam(late, needs=Access.GRADIENTS, precision="bfloat16")
    batch = made.setting.split.at(slice(0, 20))
    samples, _ = judged(made, batch)
    # By hand: a lead below 0.2 is lost, that of sample i is 0.02 · (i + ½): the first ten.
    assert samples.verdict.tolist() == [FOOLED] * 10 + [0] * 10
    assert asked == [20, 15]
    whole, _ = judged(exam(late, needs=Access.GRADIENTS, precision="float32"), batch)
    assert torch.equal(whole.adversarial, samples.adversarial)
