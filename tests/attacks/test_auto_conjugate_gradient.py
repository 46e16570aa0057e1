"""ACG: its first steps as the paper writes them, and a mountain ridge."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from tests.attacks.conftest import Linear
from trustml.attacks._adaptive import Adaptive, begin_climb
from trustml.attacks._pursuit import Peak, Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks.apgd import apgd
from trustml.attacks.auto_conjugate_gradient import (
    Conjugate,
    _begin,
    _bounded,
    _looked,
    _onward,
    _share,
    auto_conjugate_gradient,
)
from trustml.contracts import Norm
from trustml.errors import BadOption
from trustml.geometry import pull, steepest
from trustml.randomness import keyed
from trustml.threats import Lp

EPSILON, STEPS = 0.3, 40
BOX = (-3.0, 3.0)


@pytest.fixture(scope="module")
def curved() -> tuple[nn.Module, Tensor, Tensor]:
    """Return a small network in float64, inputs, and labels that it never errs about nearby."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 3)).double()
        x = torch.rand(9, 7).double()
    with torch.no_grad():
        model[2].bias[0] += 9
    return model, x, torch.zeros(9, dtype=torch.int64)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_first_steps_of_the_paper(curved: tuple[nn.Module, Tensor, Tensor], norm: Norm) -> None:
    """Algorithm 1 before its first check: s = g + β s' and a step of 2 ε along it, into the ball.

    β = ⟨g, y⟩ / ⟨s', y⟩ with y = g' − g: how the slope fell since the last point.
    """
    model, x, y = curved
    seen: list[Tensor] = []

    def spied(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return model(z)

    auto_conjugate_gradient(
        spied, x, y, Lp(norm, EPSILON, *BOX), random=keyed(0, torch.arange(9)), steps=STEPS
    )
    budget = torch.tensor(EPSILON).double()
    # The first look is at the inputs; a check is due after 0.22 of the moves.
    point, old, way = seen[1], None, None
    for number in range(1, int(0.22 * STEPS)):
        assert torch.allclose(seen[number], point, atol=1e-9), number
        here = point.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(here), y, reduction="sum")
        (slope,) = torch.autograd.grad(loss, here)
        share = torch.zeros(9, 1).double()
        if old is not None and way is not None:
            change = old - slope
            share = ((slope * change).sum(1) / (way * change).sum(1))[:, None]
            # Back at the same corner of the cube no slope has changed.
            share[change.norm(dim=1) < 1e-6 * slope.norm(dim=1)] = 0
            assert bool((share.abs() > 1e-6).any())
        way = slope if way is None else slope + share * way
        point, old = pull(point + 2 * EPSILON * steepest(way, norm), x, norm, budget, BOX), slope


def test_the_first_sparse_steps(curved: tuple[nn.Module, Tensor, Tensor]) -> None:
    """APGD's L1 steps along s = g + β s', in a ball three times as wide: signs of a few entries.

    As many as the start has moved, over 1.5; β is at least 0, and s' weighs no more than g. No wall
    is near.
    """
    model, x, y = curved
    seen: list[Tensor] = []

    def spied(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return model(z)

    epsilon, box = 1.0, (-99.0, 99.0)
    auto_conjugate_gradient(
        spied, x, y, Lp("l1", epsilon, *box), random=keyed(0, torch.arange(9)), steps=500
    )
    reach = torch.tensor(3 * epsilon).double()
    # The inputs at rest and three looks at vertices; 4 % of the 150 moves of this ball are 6.
    points, old, way, kept = seen[4:11], None, None, 0
    counts = ((points[0] != x).sum(1) / 1.5 + 1e-9).long().clamp_min(1)
    assert counts.unique().numel() > 1
    for here, there in pairwise(points):
        point = here.clone().requires_grad_()
        loss = nn.functional.cross_entropy(model(point), y, reduction="sum")
        (slope,) = torch.autograd.grad(loss, point)
        if old is None or way is None:
            way = slope
        else:
            change = old - slope
            share = (slope * change).sum(1) / (way * change).sum(1)
            share = share.clamp_min(0).minimum(slope.norm(dim=1) / way.norm(dim=1))
            share[change.norm(dim=1) < 1e-6 * slope.norm(dim=1)] = 0
            kept += int((share > 0.01).sum())
            way = slope + share[:, None] * way
        rank = way.abs().argsort(dim=1, descending=True).argsort(dim=1)
        step = (rank < counts[:, None]) * way.sign() * (3 * epsilon / counts[:, None])
        target = pull(here + step, x, "l1", reach, box)
        assert torch.allclose(there, target, atol=1e-9)
        old = slope
    assert kept > 5


def test_how_much_of_the_last_direction_is_kept() -> None:
    """β = ⟨g, y⟩ / ⟨s, y⟩ with y = g − g'; none of it where the slope changed by rounding only."""
    gradient = torch.tensor([[1.0, 2.0, -1.0]] * 3).double()
    slope = gradient + torch.tensor([[1.0, -1.0, 0.5], [1e-9, -1e-9, 0.0], [0.0, 0.0, 0.0]])
    way = torch.tensor([[2.0, 1.0, 0.0]] * 3).double()
    # (1 − 2 − 0.5) / (2 − 1).
    assert _share(gradient, slope, way).tolist() == pytest.approx([-1.5, 0.0, 0.0])


def test_sparse_walks_keep_no_more_than_the_gradient_weighs() -> None:
    """From 0 to ‖g‖ / ‖s‖ = 5 / 2: below 0 it would take back the entries that moved last."""
    gradient = torch.tensor([[3.0, 4.0]] * 3).double()
    way = torch.tensor([[0.0, 2.0]] * 3).double()
    share = torch.tensor([-1.0, 1.25, 9.0]).double()
    assert _bounded(share, gradient, way).tolist() == pytest.approx([0.0, 1.25, 2.5])


def test_a_share_is_rescaled_where_the_last_direction_outweighs_the_gradient() -> None:
    """Yamamura et al. 2024: where |β| is above the mean of |g / s|, the β of unit slopes, if less.

    g = (3, 4, 0) and g' = (8, 6, 0) are 5 and 10 long: β = 23 / (5 s₁ + 2 s₂), and of length 1
    -0.2 / (s₁ - s₂). An entry along which the last direction does not go has no ratio.
    """
    gradient = torch.tensor([[3.0, 4.0, 0.0]] * 3).double()
    slope = torch.tensor([[8.0, 6.0, 0.0]] * 3).double()
    # 23 / 8 is above (3/2 + 4) / 2, 23 / 24 below (3/4 + 2) / 2; the third is above, but -20 is no
    # less.
    way = torch.tensor([[2.0, -1.0, 0.0], [4.0, 2.0, 0.0], [1.0, 0.99, 5.0]]).double()
    plain = [23 / 8, 23 / 24, 23 / 6.98]
    assert _share(gradient, slope, way).tolist() == pytest.approx(plain)
    found = _share(gradient, slope, way, rescaled=True).tolist()
    assert found == pytest.approx([-0.2 / 3, 23 / 24, 23 / 6.98])


def test_a_rescaled_walk_is_checked_later_and_seldom() -> None:
    """Of 100 moves after 43, 19 more, then every 8; else after 22, 19 more and so on."""
    x, one = torch.full((1, 3), 0.5).double(), torch.ones(1).double()
    quarry = Quarry(x, torch.zeros(1, dtype=torch.long), Lp("l2", 9.0, *BOX), keyed(0, one.long()))
    seen = Seen(x, torch.zeros(1, 2), 0 * one, x, one < 0)
    for rescaled, expected in ((True, [43, 19, 8, 8]), (False, [22, 19, 16, 13])):
        climb, windows = _begin(quarry, steps=100, rescaled=rescaled).climb, []
        assert isinstance(climb, Adaptive)
        for _ in expected:
            windows.append(climb.window)
            climb, back = _looked(replace(climb, since=climb.window - 1), seen, rescaled=rescaled)
            assert back is None
            climb, back = _looked(replace(climb, since=climb.window), seen, rescaled=rescaled)
            assert back is not None
        assert windows == expected


def test_a_halved_walk_goes_on_from_its_peak_with_what_led_there() -> None:
    """No step of the window rose: slope, direction and gradient are those of the highest point."""
    x, one = torch.full((1, 3), 0.5).double(), torch.ones(1).double()
    quarry = Quarry(x, torch.zeros(1, dtype=torch.long), Lp("l2", 9.0, *BOX), keyed(0, one.long()))
    top, slope, way = torch.tensor([[[1.0, 2.0, -1.0]], [[2.0, 1.0, -0.5]], [[2.0, 1.0, 0.0]]])
    top, slope, way = top.double(), slope.double(), way.double()
    climb = begin_climb(quarry, 10)
    climb = replace(climb, since=climb.window, peak=Peak(x + 0.1, one, top), step=one * 1e-6)
    walk = Conjugate(x, climb, -slope, top, slope, way)
    seen = Seen(x, torch.zeros(1, 2), 0 * one, -top, one < 0)
    after = _onward(walk, seen, quarry)
    assert torch.allclose(after.way, top - 1.5 * way)
    assert torch.allclose(after.point, x + 0.1, atol=1e-5)


def test_steps_halve_where_nothing_is_gained(
    curved: tuple[nn.Module, Tensor, Tensor],
) -> None:
    """The moves in the end are short: of 2 ε, halved several times."""
    model, x, y = curved
    seen: list[Tensor] = []

    def spied(z: Tensor) -> Tensor:
        seen.append(z.detach().clone())
        return model(z)

    auto_conjugate_gradient(
        spied, x, y, Lp("l2", EPSILON, *BOX), random=keyed(0, torch.arange(9)), steps=100
    )
    last = (seen[-1] - seen[-2]).norm(dim=1)
    assert bool((last < EPSILON / 4).all())


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_sparse_walks_reach_the_verdicts_of_linear_models(linear: Linear, epsilon: float) -> None:
    """None is won that the closed form forbids, and nine in ten of the others, as by APGD."""
    threat = Lp("l1", epsilon)
    possible = linear.vulnerable(threat)
    assert bool(possible.any())
    wins = []
    for attack in (auto_conjugate_gradient, apgd):
        found = attack(
            linear.model, linear.x, linear.y, threat, random=keyed(0, torch.arange(64)),
            loss="margin", restarts=3,
        )  # fmt: skip
        assert bool(threat.contains(found, linear.x).all())
        with torch.no_grad():
            won = linear.model(found).argmax(1) != linear.y
        assert not bool((won & ~possible).any())
        wins.append(int(won.sum()))
    assert wins[0] >= 0.9 * int(possible.sum())
    assert wins[0] >= wins[1] - 1


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_top_of_a_hill_is_found(norm: Norm, rescaled: bool) -> None:
    """One round hill within the ball, whose top alone is misread: the walk ends on it."""
    top = torch.tensor([0.6, 0.45, 0.5]).double()

    def hill(z: Tensor) -> Tensor:
        height = 1e-4 - (z - top).square().sum(1)
        return torch.stack([torch.zeros_like(height), height], 1)

    x, y = torch.full((5, 3), 0.5).double(), torch.zeros(5, dtype=torch.int64)
    found = auto_conjugate_gradient(
        hill, x, y, Lp(norm, 0.2), random=keyed(0, torch.arange(5)), steps=100,
        rescaled=rescaled,
    )  # fmt: skip
    assert bool((hill(found).argmax(1) == 1).all())


@pytest.mark.parametrize("options", [{"steps": 0}, {"restarts": 0}], ids=str)
def test_bad_options_are_refused(options: dict[str, int]) -> None:
    x, y = torch.rand(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(BadOption, match=next(iter(options))):
        auto_conjugate_gradient(
            nn.Linear(3, 4), x, y, Lp("linf", 0.1), random=keyed(0, y), **options
        )
