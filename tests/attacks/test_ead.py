"""EAD's decision rules: the nearest in L1, or the least elastic sum, whose least is known."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trustml.attacks._nearest import Nearest
from trustml.attacks._quarry import Quarry
from trustml.attacks.ead import _least_elastic, ead
from trustml.errors import UnknownName
from trustml.geometry import distance, project
from trustml.randomness import keyed
from trustml.recipes import choose
from trustml.threats import Lp

SAMPLES, ENTRIES = 12, 10
IDS = torch.arange(SAMPLES)
LOW, HIGH = -1.0, 3.0
WIDE = HIGH - LOW
EVERYWHERE = float("inf")


class Linear(nn.Module):
    """Two classes, in float64; every point asked about is kept."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias, self.points = weight, bias, []

    def forward(self, x: Tensor) -> Tensor:
        self.points.append(x.detach().clone())
        lead = x.double() @ self.weight + self.bias
        return torch.stack([-lead, lead], 1)


@pytest.fixture
def scene() -> tuple[Linear, Tensor, Tensor]:
    """Return a linear model, inputs of which some entries stand at a wall, and their labels."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(ENTRIES, generator=generator).double() / 4
    x = LOW + WIDE * torch.rand(SAMPLES, ENTRIES, generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.2, HIGH, x)
    model = Linear(weight, 0.0)
    model.bias = -float((x.double() @ weight).mean())
    y = model(x).argmax(1)
    model.points.clear()
    return model, x, y


def attacked(scene: tuple[Linear, Tensor, Tensor], threat: Lp, **options: Any) -> Tensor:
    model, x, y = scene
    return ead(model, x, y, threat, random=keyed(0, IDS), **{"steps": 60, "searches": 6, **options})


def elastic(point: Tensor, x: Tensor, beta: float) -> Tensor:
    """Return β · L1 + squared L2, moves counted in widths of the box."""
    move = (point.double() - x.double()) / WIDE
    return beta * move.abs().sum(-1) + move.square().sum(-1)


def least_elastic(model: Linear, x: Tensor, y: Tensor, beta: float) -> Tensor:
    """Return the least elastic sum (B,) with which a point of the box is misread.

    A convex problem of one constraint w · d ≥ g. With its multiplier m each entry moves against the
    label by (m |w| - β) / 2, from 0 to its wall; m is where the gap is just closed.
    """
    sums = []
    for row, label in zip(x.double(), y, strict=True):
        sign = 1.0 - 2.0 * float(label)
        slope = sign * model.weight * WIDE
        gap = -sign * float(row @ model.weight + model.bias)
        room = torch.where(slope > 0, HIGH - row, row - LOW) / WIDE
        lower, upper = 0.0, 1e6
        for _ in range(200):
            middle = (lower + upper) / 2
            move = ((middle * slope.abs() - beta) / 2).clamp_min(0).minimum(room)
            if float(move @ slope.abs()) < gap:
                lower = middle
            else:
                upper = middle
        sums.append(beta * move.sum() + move.square().sum())
    return torch.stack(sums)


def test_the_least_sum_is_what_scipy_finds(scene: tuple[Linear, Tensor, Tensor]) -> None:
    """The closed form beside a general solver, in moves up and down that are not below 0."""
    from scipy.optimize import minimize

    model, x, y = scene
    beta = 0.05
    for row in range(4):
        sign = 1.0 - 2.0 * float(y[row])
        slope = sign * model.weight.numpy() * WIDE
        place = x[row].double().numpy()
        gap = -sign * (place @ model.weight.numpy() + model.bias)
        both = np.r_[slope, -slope]
        best = minimize(
            lambda d: beta * d.sum() + d @ d, np.full(2 * ENTRIES, 0.01), method="SLSQP",
            jac=lambda d: beta + 2 * d,
            bounds=[(0, far) for far in np.r_[HIGH - place, place - LOW] / WIDE],
            constraints={
                "type": "ineq", "fun": lambda d, gap=gap, both=both: both @ d - gap,
                "jac": lambda d, both=both: both,
            },
            options={"ftol": 1e-14, "maxiter": 500},
        )  # fmt: skip
        assert best.success
        truth = float(least_elastic(model, x[row : row + 1], y[row : row + 1], beta))
        assert truth == pytest.approx(best.fun, rel=1e-5)


@pytest.mark.parametrize(("beta", "factor"), [(0.001, 1.02), (0.01, 1.1)])
def test_a_linear_model_falls_near_its_least_sum(
    scene: tuple[Linear, Tensor, Tensor], beta: float, factor: float
) -> None:
    """Never below the least; the larger beta, the more the walk prefers L1 itself (β / rate)."""
    model, x, y = scene
    threat = Lp("l1", EVERYWHERE, LOW, HIGH)
    found = attacked(scene, threat, rule="elastic", beta=beta)
    assert bool((model(found).argmax(1) != y).all())
    ratio = elastic(found, x, beta) / least_elastic(model, x, y, beta)
    assert float(ratio.min()) >= 1 - 1e-6
    assert float(ratio.median()) <= factor
    nearest = attacked(scene, threat, rule="l1", beta=beta)
    assert bool((elastic(found, x, beta) <= elastic(nearest, x, beta)).all())
    farther = distance(found, x, "l1") / distance(nearest, x, "l1")
    assert float(farther.median()) > 1.1


@pytest.mark.parametrize("rule", ["l1", "elastic"])
def test_the_best_of_all_points_that_won_is_kept(
    scene: tuple[Linear, Tensor, Tensor], rule: str
) -> None:
    """The model saw every point that was tried, in order: the rule picks one that it misread."""
    model, x, y = scene
    beta = 0.003
    found = attacked(scene, Lp("l1", EVERYWHERE, LOW, HIGH), rule=rule, beta=beta)
    points = torch.stack(model.points)
    won = torch.stack([model(some).argmax(1) != y for some in points])
    assert bool(won.any(0).all())
    size = elastic(points, x, beta) if rule == "elastic" else (points - x).double().abs().sum(-1)
    best = size.masked_fill(~won, torch.inf).argmin(0)
    assert torch.equal(found, points[best, IDS])


def test_beta_counts_in_widths_of_the_box(scene: tuple[Linear, Tensor, Tensor]) -> None:
    """The same model and inputs in a box of 255: the same points, so many times as far."""
    model, x, y = scene
    small = attacked(scene, Lp("l1", EVERYWHERE, LOW, HIGH), rule="elastic")
    factor = 64.0  # a power of 2, so that nothing is rounded
    wide = Linear(model.weight / factor, model.bias)
    threat = Lp("l1", EVERYWHERE, LOW * factor, HIGH * factor)
    large = attacked((wide, x * factor, y), threat, rule="elastic")
    assert torch.allclose(large / factor, small, atol=1e-5)


def test_what_lies_outside_the_ball_is_projected(scene: tuple[Linear, Tensor, Tensor]) -> None:
    """The budget changes nothing of the search; the answer stays in ball and box."""
    _, x, _ = scene
    free = attacked(scene, Lp("l1", EVERYWHERE, LOW, HIGH), rule="elastic")
    far = distance(free, x, "l1") * torch.linspace(0.3, 1.2, SAMPLES)
    threat = Lp("l1", far, LOW, HIGH)
    found = attacked(scene, threat, rule="elastic")
    assert torch.equal(found, project(free, x, "l1", threat.budget(x), (LOW, HIGH)))
    assert bool(threat.contains(found, x).all())


def test_stopping_is_about_the_l1_budget(scene: tuple[Linear, Tensor, Tensor]) -> None:
    """Within 1.2 times the L1 distance of what is found without, all win, and take fewer passes."""
    model, x, y = scene
    free = attacked(scene, Lp("l1", EVERYWHERE, LOW, HIGH), rule="elastic")
    looks = sum(len(some) for some in model.points)
    model.points.clear()
    threat = Lp("l1", 1.2 * distance(free, x, "l1"), LOW, HIGH)
    found = attacked(scene, threat, rule="elastic", stop_inside=True)
    assert sum(len(some) for some in model.points) < 0.9 * looks
    assert bool((model(found).argmax(1) != y).all())
    assert bool(threat.contains(found, x).all())


def test_a_point_within_the_budget_is_better_than_any_outside() -> None:
    """Only if the budget is what counts: else the lesser sum is kept, and a loser is never.

    One entry moved by 1 is nearer in L1 (1) and has the larger sum (1 + β); four moved by 0.4 are
    1.6 away, with 0.64 + 1.6 β.
    """
    x = torch.zeros(1, 4)
    sharp, even = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 4), 0.4)
    quarry = Quarry(x, torch.zeros(1).long(), Lp("l1", 1.2), keyed(0, torch.zeros(1).long()))
    nothing = Nearest(x, torch.tensor([torch.inf]).double())
    yes, no = torch.tensor([True]), torch.tensor([False])
    for stop, order, kept in (
        (False, (sharp, even), even), (False, (even, sharp), even),
        (True, (sharp, even), sharp), (True, (even, sharp), sharp),
    ):  # fmt: skip
        keep = partial(_least_elastic, beta=0.1, stop_inside=stop)
        held = keep(nothing, order[0], no, quarry)
        assert held.distance.isinf().all()
        held = keep(keep(held, order[0], yes, quarry), order[1], yes, quarry)
        assert torch.equal(held.point, kept)
        assert held.distance.tolist() == pytest.approx([float(kept.sum())])


def test_an_infinite_budget_stops_at_the_first_winner_only(
    scene: tuple[Linear, Tensor, Tensor],
) -> None:
    """It holds every point, but a sample without one has none within it."""
    model, _, y = scene
    found = attacked(scene, Lp("l1", EVERYWHERE, LOW, HIGH), rule="elastic", stop_inside=True)
    assert bool((model(found).argmax(1) != y).all())


def test_a_rule_that_is_none_is_refused() -> None:
    """The line names what is allowed."""
    with pytest.raises(UnknownName, match="elastic"):
        choose("attack", "ead:rule=l2")
