"""Maximum sensitivity and stability under attack, on explanations whose worst move is known."""

import pytest
import torch
from torch import Tensor

from trustml.benchmarks.explanation_scores import compare
from trustml.benchmarks.explanation_stability import max_sensitivity, stability_under_attack
from trustml.errors import BadOption, NotApplicable

X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(3))
TARGET = torch.zeros(6, dtype=torch.int64)


def constant(x: Tensor, target: Tensor) -> Tensor:
    return torch.ones_like(x)


def identity(x: Tensor, target: Tensor) -> Tensor:
    return x


def noise(x: Tensor, target: Tensor) -> Tensor:
    """A map that has nothing to do with the last one."""
    return torch.sin(1e6 * x + torch.arange(64).view(1, 1, 8, 8))


def bright(x: Tensor) -> Tensor:
    total = x.flatten(1).sum(1)
    return torch.stack([total - 10, 10 - total], 1)


def test_a_constant_map_is_not_sensitive() -> None:
    """A linear model's weight row is one: its sensitivity is 0 by any search."""
    assert float(max_sensitivity(constant, X, TARGET, climbs=5).values.max()) == 0


def test_the_map_that_is_its_input_moves_as_far_as_the_input() -> None:
    """E(x) = x: the ball's corners are farthest, r √D/‖x‖; uniform moves get about 1/√3 of it."""
    most = 0.1 * 8 / X.flatten(1).norm(dim=1).double()
    sampled = max_sensitivity(identity, X, TARGET, radius=0.1, draws=20).values
    climbed = max_sensitivity(identity, X, TARGET, radius=0.1, draws=20, climbs=150).values
    assert bool((climbed >= sampled).all())
    assert bool((climbed <= most + 1e-6).all())
    assert bool((sampled < 0.75 * most).all())
    assert bool((sampled > 0.5 * most).all())
    assert bool((climbed > 0.9 * most).all())


def test_a_map_of_zeros_has_no_relative_change() -> None:
    """Its size is 0: no sensitivity is defined there, and the others keep theirs."""

    def explain(x: Tensor, target: Tensor) -> Tensor:
        return x * (x.flatten(1)[:, :1, None, None] > 0)

    x = X.clone()
    x[0, 0, 0, 0] = -0.5
    found = max_sensitivity(explain, x, TARGET)
    assert found.undefined == 1
    assert bool(found.values[0].isnan())


def test_the_box_holds() -> None:
    """Inputs at the upper bound can only fall: E(x) = x moves by at most r, where it falls."""
    top = torch.ones(2, 1, 8, 8)
    found = max_sensitivity(identity, top, TARGET[:2], radius=0.1, draws=10, bounds=(0.0, 1.0))
    assert float(found.values.max()) <= 0.1
    with_room = max_sensitivity(identity, top, TARGET[:2], radius=0.1, draws=10)
    assert float(found.values.max()) < float(with_room.values.min())


def test_sensitivity_agrees_with_captum() -> None:
    """The same moves through captum's metric: the greatest relative change in the L2 norm."""
    from captum.metrics import sensitivity_max

    draws, shape = 7, (1, 8, 8)
    uniform = torch.rand(draws, *shape, generator=torch.Generator().manual_seed(0))
    moves = 0.1 * (2 * uniform - 1)

    def explain(x: Tensor, target: Tensor) -> Tensor:
        return x.square() * torch.arange(64).view(shape)

    wanted = sensitivity_max(
        lambda x: (explain(x[0], TARGET),),
        (X,),
        perturb_func=lambda x: (x + moves.repeat(len(X), 1, 1, 1),),
        n_perturb_samples=draws,
    )
    ours = max_sensitivity(explain, X, TARGET, radius=0.1, draws=draws)
    assert torch.allclose(ours.values.float(), wanted, rtol=1e-4)


def test_a_steady_map_is_more_stable_than_noise() -> None:
    """One that never changes keeps all of its top; one that is drawn anew keeps about a tenth."""
    still = stability_under_attack(bright, constant, X, TARGET, radius=0.05, climbs=10)
    assert float(still.values.min()) == 1
    moved = stability_under_attack(bright, noise, X, TARGET, radius=0.05, climbs=20)
    assert moved.score.value < 0.2
    assert compare(still, moved).verdict == "better"


def test_a_map_of_zeros_is_not_stable_but_undefined() -> None:
    """It points at nothing, so that nothing can be moved: no 1.00, and none at all without maps."""

    def explain(x: Tensor, target: Tensor) -> Tensor:
        return x * (x.flatten(1)[:, :1, None, None] > 0)

    x = X.clone()
    x[0, 0, 0, 0] = -0.5
    found = stability_under_attack(bright, explain, x, TARGET)
    assert found.undefined == 1
    assert bool(found.values[0].isnan())
    with pytest.raises(NotApplicable, match="zero everywhere"):
        stability_under_attack(bright, lambda x, target: 0 * x, X, TARGET)


def test_the_attacker_may_not_change_the_answer() -> None:
    """Where every move by as much as 0.01 changes the answer, nothing is displaced."""

    def brittle(x: Tensor) -> Tensor:
        same = (x.flatten(1).double() - reference).abs().sum(1) < 1e-9
        return torch.stack([same.float(), 1 - same.float()], 1)

    reference = X[:1].flatten(1).double()
    held = stability_under_attack(brittle, noise, X[:1], TARGET[:1], climbs=20)
    assert held.score.value == 1


def test_the_attacker_finds_what_little_is_needed() -> None:
    """E(x) = x with two entries a hair apart: to swap them is to displace the top one of two."""
    x = torch.tensor([[0.50, 0.51]])
    found = stability_under_attack(
        lambda x: torch.stack([x.sum(1), -x.sum(1)], 1), identity, x, TARGET[:1],
        radius=0.05, top=0.5, climbs=60,
    )  # fmt: skip
    assert found.score.value == 0
    held = stability_under_attack(
        lambda x: torch.stack([x.sum(1), -x.sum(1)], 1), identity, x, TARGET[:1],
        radius=0.004, top=0.5, climbs=60,
    )  # fmt: skip
    assert held.score.value == 1


def test_options_out_of_range() -> None:
    with pytest.raises(BadOption, match="radius=0"):
        max_sensitivity(identity, X, TARGET, radius=0.0)
    with pytest.raises(BadOption, match="0 draws"):
        max_sensitivity(identity, X, TARGET, draws=0)
    with pytest.raises(BadOption, match="top=1"):
        stability_under_attack(bright, identity, X, TARGET, top=1.0)
