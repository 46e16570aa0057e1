"""The exam: on a linear model the exact row beats the random one in every metric defined for it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.benchmarks.explanation_metrics import METRICS, PRICES
from trustml.benchmarks.explanation_question import Question, Shuffled, explainer
from trustml.benchmarks.explanations import Examined, beside_nothing, examine
from trustml.contracts import Access
from trustml.errors import BadInput, MethodFailed, NotApplicable, UnknownName
from trustml.recipes import Choice, choose
from trustml.registry import Plugin


class Linear(nn.Module):
    """Four classes, a smooth template each, on images (1, 8, 8)."""

    def __init__(self, seed: int = 7) -> None:
        super().__init__()
        self.head = nn.Linear(64, 4)
        with torch.no_grad():
            bumps = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
            bumps = nn.functional.avg_pool2d(bumps, 3, 1, 1).flatten(1) * 4
            self.head.weight.copy_(bumps - bumps.mean(1, keepdim=True))
            self.head.bias.zero_()

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


@pytest.fixture(scope="module")
def question() -> Question:
    model = Linear()
    x = inputs(model, 60, seed=2)
    with torch.no_grad():
        target = model(x).argmax(1)
    background = inputs(model, 30, seed=3)
    return Question(
        model, x, target, background,
        baseline="mean", shuffled=lambda: Shuffled(Linear(seed=8), 1.0),
        pool=inputs(model, 80, 80), fresh=inputs(model, 200, 200),
    )  # fmt: skip


def inputs(model: Linear, count: int, seed: int) -> Tensor:
    """Return inputs of every class in turn: grey with a faint template, and noise."""
    weight = model.head.weight.detach()[torch.arange(count) % 4].view(-1, 1, 8, 8)
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (0.3 + 0.05 * weight + 0.4 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def results(question: Question) -> dict[str, Examined]:
    return {
        name: examine(question, choose("attribution", name))
        for name in ("linear_exact", "random", "blurred_random")
    }


def test_every_metric_ranks_the_exact_row_above_the_random_one(
    results: dict[str, Examined],
) -> None:
    """Where the truth is known a metric that does not see it is worth nothing."""
    leads = beside_nothing(results)
    for metric in METRICS.keys() - set(PRICES):
        lead = leads[metric]["linear_exact"]
        assert lead.verdict == "better", (metric, lead)
        assert lead.score.low > 0, (metric, lead)


def test_smooth_noise_is_not_distinguished_from_noise_by_sums(
    results: dict[str, Examined],
) -> None:
    leads = beside_nothing(results)
    assert leads["sensitivity-n"]["blurred_random"].verdict == "not distinguishable"


def test_costs_are_counted(question: Question) -> None:
    """A gradient is one pass each way; occlusion of 4 windows asks 5 times; noise never asks."""
    for text, forwards, backwards in (
        ("gradient", 1, 1),
        ("occlusion:window=4,stride=4", 5, 0),
        ("random", 0, 0),
        ("smooth_grad:draws=7", 7, 7),
    ):
        cost = examine(question, choose("attribution", text), metrics=("infidelity",)).cost
        assert cost.forwards == forwards, text
        assert cost.backwards == backwards, text


def test_a_metric_that_is_not_for_a_method_says_why(question: Question) -> None:
    lone = replace(question, shuffled=None)
    found = examine(lone, choose("attribution", "gradient"), metrics=("data randomisation",))
    assert not found.measured
    assert "shuffled" in found.skipped["data randomisation"]
    flat = replace(
        question, model=Flat(question.model), x=question.x.flatten(1),
        background=question.background.flatten(1),
    )  # fmt: skip
    found = examine(flat, choose("attribution", "gradient"), metrics=("ROAD", "deletion"))
    assert list(found.measured) == ["deletion"]
    assert "neighbours" in found.skipped["ROAD"]


class Flat(nn.Module):
    """The same on vectors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.view(-1, 1, 8, 8))


def test_completeness_is_held_against_the_methods_own_baseline(question: Question) -> None:
    """Integrated gradients from the mean are complete from the mean, and miss from zero."""
    method = choose("attribution", "integrated_gradients:baseline=mean")
    names = ("completeness error", "multi-baseline error")
    found = examine(question, method, metrics=names).measured
    assert found["completeness error"].score.high < 1e-4
    assert found["multi-baseline error"].score.low > 0.01


def test_a_method_without_gradients_gets_none(question: Question) -> None:
    """It is handed a model at the access that it declares."""
    seen = []

    def method(model: object, x: Tensor, target: Tensor, background: Tensor) -> Tensor:
        seen.append(model)
        return x

    plugin = Plugin(
        "attribution", "method", method, "", "", (), {"needs": Access.LOGITS, "influence": False}
    )
    explainer(Choice(plugin, {}), question.model, question.background)(question.x, question.target)
    assert isinstance(seen[0], Handed)
    assert seen[0].access == Access.LOGITS


def test_nothing_stays_on_the_model(question: Question) -> None:
    """No hook of the count, no softened ReLU, also where a method breaks in the middle."""

    def broken(model: nn.Module, x: Tensor, target: Tensor, background: Tensor) -> Tensor:
        model(x)
        raise ValueError("in the middle")

    plugin = Plugin(
        "attribution", "broken", broken, "", "", (), {"needs": Access.GRADIENTS, "influence": True}
    )
    with pytest.raises(MethodFailed, match="in the middle"):
        examine(question, Choice(plugin, {}))
    examine(question, choose("attribution", "gradient"), metrics=("stability under attack",))
    model = question.model
    assert isinstance(model, nn.Module)
    assert not any(module._forward_hooks for module in model.modules())
    assert float(nn.functional.relu(torch.tensor(-0.01))) == 0


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (lambda x: x[:1], "returned .1, 1, 8, 8."),
        (lambda x: x / 0 * 0, "not finite"),
        (lambda x: None, "returned NoneType"),
        (lambda x: x.nonsense, "raised AttributeError"),
    ],
)
def test_a_method_that_breaks_its_contract_fails(
    question: Question, maps: object, message: str
) -> None:
    plugin = Plugin(
        "attribution", "method", lambda model, x, target, background: maps(x), "", "", (),  # type: ignore[operator]
        {"needs": Access.GRADIENTS, "influence": False},
    )  # fmt: skip
    with pytest.raises(MethodFailed, match=message):
        examine(question, Choice(plugin, {}))


def test_what_cannot_be_examined(question: Question, results: dict[str, Examined]) -> None:
    with pytest.raises(UnknownName, match="did you mean 'deletion'"):
        examine(question, choose("attribution", "gradient"), metrics=("deletoin",))
    bent = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))
    with pytest.raises(NotApplicable, match="not affine"):
        examine(replace(question, model=bent), choose("attribution", "linear_exact"))
    with pytest.raises(BadInput, match="no row 'random'"):
        beside_nothing({"linear_exact": results["linear_exact"]})


def test_weight_rows_leak_at_once(results: dict[str, Examined]) -> None:
    """Four queries, one a class, are a linear model; noise leaks little beyond the logits."""
    exact, noise = (results[name] for name in ("linear_exact", "random"))
    assert exact.measured["queries to 99 %"].score.value == 4
    assert exact.measured["leaked agreement"].score.value == 1
    assert "not within 80 explanations" in noise.skipped["queries to 99 %"]
    # What is leaked is a price: the row that knows nothing gives least away, and wins nothing.
    assert noise.measured["leaked agreement"].score.high < 1
    assert not set(beside_nothing(results)) & set(PRICES)


def test_a_thief_without_inputs_is_not_asked(question: Question) -> None:
    lone = replace(question, pool=None)
    found = examine(lone, choose("attribution", "gradient"), metrics=PRICES)
    assert set(found.skipped) == set(PRICES)
    few = replace(question, pool=question.pool[:3])  # type: ignore[index]
    found = examine(few, choose("attribution", "gradient"), metrics=PRICES[1:])
    assert "a thief of 4 classes needs as many inputs, and has 3" in found.skipped[PRICES[1]]
