"""Attacks on explanations: the softened stand-in, walks along its slope, and moves tried."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from trustml.benchmarks.explanation_attack import Search, climb, slope_of, smooth_stand_in, walk
from trustml.benchmarks.explanation_stability import max_sensitivity, stability_under_attack

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
TARGET = torch.zeros(6, dtype=torch.int64)


def itself(x: Tensor, target: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize(
    "bend", [nn.ReLU(), nn.ReLU(inplace=True), relu, torch.relu, torch.Tensor.relu]
)
def test_a_softened_relu_has_the_slope_of_softplus(bend: Callable[[Tensor], Tensor]) -> None:
    """d/dz softplus(20 z)/20 = sigmoid(20 z), however the network calls its ReLU."""

    def model(x: Tensor) -> Tensor:
        return torch.stack([bend(x[:, 0] - x[:, 1]), bend(2 * x[:, 1])], 1)

    x = torch.tensor([[0.1, 0.0], [0.0, 0.05]], requires_grad=True)
    slope = smooth_stand_in(model, influence=True)(x, torch.tensor([0, 1]))
    first, second = torch.tensor(0.1 * 20).sigmoid(), torch.tensor(0.1 * 20).sigmoid()
    wanted = torch.stack([torch.stack([first, -first]), torch.stack([0 * second, 2 * second])])
    assert torch.allclose(slope, wanted, atol=1e-6)
    parts = smooth_stand_in(model, influence=False)(x, torch.tensor([0, 1]))
    assert torch.allclose(parts, x * wanted, atol=1e-6)
    assert slope.requires_grad
    # Meanwhile, not for good.
    assert float(relu(torch.tensor(-0.01))) == 0


def test_the_model_is_itself_again_after_an_error() -> None:
    def model(x: Tensor) -> Tensor:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        smooth_stand_in(model, influence=True)(X.clone().requires_grad_(), TARGET)
    assert float(relu(torch.tensor(-0.01))) == 0


def test_a_walk_reaches_the_corner_in_one_step() -> None:
    """Of the gain (x + δ)·s the best δ is radius · s; a step in each sign goes there at once."""
    sign = torch.where(torch.arange(64).view(1, 1, 8, 8) % 3 == 0, -1.0, 1.0)
    search = Search(X, 0.1, None, 0)

    def gain(x: Tensor) -> Tensor:
        return (x * sign).flatten(1).sum(1).double()

    start = gain(X)
    way = slope_of(lambda x, rows: (x * sign).flatten(1).sum(1))
    move, best, went = walk(search, gain, way, X * 0, start, 1)
    assert went
    assert torch.allclose(move, 0.1 * sign.expand_as(X))
    assert torch.allclose(best, start + 6.4, atol=1e-4)
    _, by_trial = climb(search, gain, X * 0, start, 20)
    assert bool((by_trial > start).all())
    assert bool((by_trial < best).all())


def test_a_walk_without_a_slope_stays() -> None:
    """A score that does not hang on the input has none, nor has one that is flat."""
    search = Search(X, 0.1, None, 0)
    for score in (lambda x, rows: torch.ones(len(x)), lambda x, rows: (x * 0).flatten(1).sum(1)):
        move, _, went = walk(
            search, lambda x: x.flatten(1).sum(1).double(), slope_of(score), X * 0,
            torch.zeros(6).double(), 3,
        )  # fmt: skip
        assert not went
        assert float(move.abs().max()) == 0


def test_a_walk_stays_in_the_box_and_keeps_the_best() -> None:
    """At the upper bound nothing can rise; a step that loses is walked and not kept."""
    search = Search(torch.ones(2, 1, 8, 8), 0.1, (0.0, 1.0), 0)
    assert float(search.moved(torch.full((2, 1, 8, 8), 0.1)).max()) == 1
    down = slope_of(lambda x, rows: -x.flatten(1).sum(1))
    move, best, _ = walk(
        search, lambda x: x.flatten(1).sum(1).double(), down, torch.zeros(2, 1, 8, 8),
        torch.full((2,), 64.0).double(), 4,
    )  # fmt: skip
    assert float(best.min()) == 64
    assert float(move.abs().max()) == 0


def test_the_slope_finds_the_greatest_sensitivity_at_once() -> None:
    """E(x) = x: r √D/‖x‖ in the corners, which trial alone does not reach in 20 moves."""
    most = 0.1 * 8 / X.flatten(1).norm(dim=1).double()
    options = {"radius": 0.1, "draws": 3}
    blind = max_sensitivity(itself, X, TARGET, climbs=20, **options)
    led = max_sensitivity(itself, X, TARGET, climbs=2, stand_in=itself, **options)
    assert torch.allclose(led.values, most, atol=1e-5)
    assert bool((blind.values < 0.99 * most).all())
    assert led.note.startswith("attacked by 1 steps along a softened copy's gradient")
    assert blind.note == "attacked by 20 tried moves, without a gradient"
    assert not max_sensitivity(itself, X, TARGET, radius=0.1).note


def test_the_slope_displaces_the_top_of_a_map() -> None:
    """E(x) = x, four of 64 entries a little above the rest: to lower them and lift others."""
    x = torch.full((1, 1, 8, 8), 0.5)
    x[..., 3, 2:6] = 0.53

    def answer(x: Tensor) -> Tensor:
        return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], 1)

    def left(stand_in: Callable[[Tensor, Tensor], Tensor] | None) -> float:
        found = stability_under_attack(
            answer, itself, x, TARGET[:1], radius=0.02, top=4 / 64, climbs=6, stand_in=stand_in
        )
        return found.score.value

    assert left(itself) == 0
    assert left(None) > 0
