"""Walks watched from the model's side: where they begin, how they go on, who is charged."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trustml.access import Handed
from trustml.attacks._adaptive import Adaptive, begin_climb, checked, climb
from trustml.attacks._adaptive_l1 import _checked as _sparsely_checked
from trustml.attacks._adaptive_l1 import begin_sparsely
from trustml.attacks._ascent import ascend, begin_ascent, in_ball
from trustml.attacks._losses import margin
from trustml.attacks._pursuit import Peak, Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks.apgd import apgd
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.attacks.auto_conjugate_gradient import auto_conjugate_gradient
from trustml.attacks.bim import bim
from trustml.attacks.pgd import pgd
from trustml.contracts import Access, Norm
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES, ENTRIES = 6, 8
IDS = torch.arange(SAMPLES)
X, Y = torch.full((SAMPLES, ENTRIES), 0.5), torch.zeros(SAMPLES, dtype=torch.long)
NONE = torch.zeros(SAMPLES, dtype=torch.bool)


class Watched(nn.Module):
    """Class 1 gains `slope` times each entry but never wins; every point asked about is kept."""

    def __init__(self, slope: float = 1.0, lead: float = 99.0) -> None:
        super().__init__()
        self.slope, self.lead, self.points = slope, lead, []

    def forward(self, x: Tensor) -> Tensor:
        self.points.append(x.detach().clone())
        gain = self.slope * x.sum(1)
        return torch.stack([self.lead - gain, gain - self.lead], 1)


@pytest.mark.parametrize("attack", [pgd, apgd, auto_conjugate_gradient])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_restart_begins_elsewhere(attack: Any, norm: Norm) -> None:
    """Four walks of one move: a look at the inputs, then two looks a walk, no two starts alike."""
    model, random = Watched(), keyed(0, IDS)
    attack(model, X, Y, Lp(norm, 0.2), random=random, steps=1, restarts=4, loss="margin")
    assert len(model.points) == 1 + 4 * 2
    starts = torch.stack(model.points[1::2])
    for row in range(SAMPLES):
        assert torch.pdist(starts[:, row]).min() > 0.01


def test_every_restart_towards_a_target_begins_elsewhere() -> None:
    """A look at the inputs, one for the order of targets, then two looks a walk."""
    model, random = Watched(), keyed(0, IDS)
    apgd_targeted(model, X, Y, Lp("linf", 0.2), random=random, steps=1, restarts=4)
    assert len(model.points) == 2 + 4 * 2
    starts = torch.stack(model.points[2::2])
    for row in range(SAMPLES):
        assert torch.pdist(starts[:, row]).min() > 0.01


def test_walks_in_l1_go_through_wider_balls_first() -> None:
    """Croce & Hein 2021: three times and twice the radius, 12 of 40 moves each, after two looks."""
    model = Watched()
    apgd(model, X, Y, Lp("l1", 0.3), random=keyed(0, IDS), steps=40, loss="margin")
    far = torch.stack([distance(points, X, "l1").amax() for points in model.points[4:]]) / 0.3
    for first, radius in ((0, 3), (13, 2), (26, 1)):
        leg = far[first : first + 12]
        assert float(leg.max()) == pytest.approx(radius, rel=0.02), far


def test_bim_begins_at_the_input_and_goes_four_times_as_far_as_the_ball_is_wide() -> None:
    """Ten steps of 4 · ε / 10: the third reaches the edge, which is not left.

    The first look is that of the walk.
    """
    model = Watched(lead=ENTRIES)  # by little, so that the cross-entropy has a slope
    bim(model, X, Y, Lp("linf", 0.2), random=keyed(0, IDS), steps=10)
    assert torch.equal(model.points[0], X)
    moved = [float((points - X).amax()) for points in model.points]
    assert moved == pytest.approx([min(0.08 * step, 0.2) for step in range(11)], abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_passes_are_counted_to_the_sample_that_was_asked_about(norm: Norm) -> None:
    """Samples leave at different looks; the last entry, which weighs nothing, says which is which.

    What the ledger says of each is how often the model saw it.
    """
    weight = torch.ones(ENTRIES + 1)
    weight[-1] = 0
    x = torch.full((SAMPLES, ENTRIES + 1), 0.5)
    x[:, -1] = IDS / 100
    lead = ENTRIES * (0.5 + torch.tensor([0.002, 0.2, 0.05, 9.0, 0.1, 0.02]))
    seen: list[Tensor] = []

    def model(z: Tensor) -> Tensor:
        names = (100 * z[:, -1]).round().long()
        seen.append(names)
        gain = z @ weight - lead[names]
        return torch.stack([-gain, gain], 1)

    sizes = {"linf": 0.3, "l2": 0.3 * ENTRIES**0.5, "l1": 0.3 * ENTRIES}
    handed = Handed(model, Access.GRADIENTS, SAMPLES, block=1)
    threat = Lp(norm, sizes[norm])
    step = sizes[norm] / 8  # short, so that they leave at different looks
    found = pgd(handed, x, Y, threat, random=keyed(0, IDS), steps=20, step=step, start=False)
    assert torch.equal(found[:, -1], x[:, -1])
    counts = torch.cat(seen).bincount(minlength=SAMPLES)
    assert handed.forwards.long().tolist() == counts.tolist()
    assert len(set(counts.tolist())) > 3
    assert int(counts.argmax()) == 3


def test_points_of_the_wider_balls_end_no_walk_in_l1() -> None:
    """Who falls in a ball three times as wide takes as many looks as who does not.

    Of 40 moves 12 each go to the two wider balls; two more go to vertices first.
    """
    model = Watched(lead=0.5 * ENTRIES + 0.6)
    looks = []
    for epsilon in (0.1, 0.5):
        handed = Handed(model, Access.GRADIENTS, SAMPLES)
        apgd(handed, X, Y, Lp("l1", epsilon), random=keyed(0, IDS), steps=40, loss="margin")
        looks.append(handed.backwards.tolist())
    assert looks == [[2 + 12 + 12 + 16] * SAMPLES] * 2


def test_two_greedy_moves_of_l1_go_to_the_vertex() -> None:
    """Slopes 1 to 8 and a budget of 0.75: entry 8 to its wall, entry 7 half as far: margin known.

    One step of the walk's own would share the budget.
    """
    slope = torch.arange(1.0, ENTRIES + 1)

    def model(x: Tensor) -> Tensor:
        gain = x @ slope
        return torch.stack([99 - gain, gain - 99], 1)

    found = apgd(model, X, Y, Lp("l1", 0.75), random=keyed(0, IDS), steps=1, loss="margin")
    best = X.clone()
    best[:, -1], best[:, -2] = 1.0, 0.75
    assert torch.allclose(margin(model(found), Y), margin(model(best), Y), atol=0.02)


def test_sparse_steps_follow_the_support_of_the_best_point() -> None:
    """Croce & Hein 2021, algorithm 2: a support that falls by 5 % begins anew with a full step.

    Else the step is divided by 1.5, down to a tenth of the radius; 1/1.5 of the support moves next.
    """
    quarry = Quarry(X, Y, Lp("l1", 2.0), keyed(0, IDS), start=X)
    moved = (torch.arange(ENTRIES) < 4).float()  # half of the entries of the best point
    walk = replace(
        begin_sparsely(quarry, 1.0, 100), peak=Peak(X + 0.1 * moved, Y.float(), X),
        support=torch.tensor([1.0, 0.6, 0.52, 0.5, 0.5, 0.4]),
        step=torch.tensor([0.3, 0.3, 0.3, 0.9, 0.21, 0.9]),
    )  # fmt: skip
    after, back = _sparsely_checked(walk, quarry)
    assert back.tolist() == [True, True, False, False, False, False]
    assert after.step.tolist() == pytest.approx([2.0, 2.0, 0.2, 0.6, 0.2, 0.6])
    assert after.support.tolist() == [0.5] * SAMPLES
    assert after.density.tolist() == pytest.approx([0.5 / 1.5] * SAMPLES)


def _walk(steps: int, **changes: Any) -> Adaptive:
    return replace(begin_climb(Quarry(X, Y, Lp("linf", 0.3), keyed(0, IDS)), steps), **changes)


def test_a_step_keeps_a_quarter_of_the_last_one() -> None:
    """Croce & Hein 2020, algorithm 1, line 7, with α = 0.75."""
    quarry = Quarry(X, Y, Lp("linf", 0.3), keyed(0, IDS))
    small = torch.full((SAMPLES,), 0.01)
    walk = _walk(10, point=X, previous=X - 0.04, step=small, moved=True)
    seen = Seen(X, torch.zeros(SAMPLES, 2), torch.zeros(SAMPLES), torch.ones_like(X), NONE)
    point = climb(walk, seen, quarry).point
    assert torch.allclose(point, X + 0.75 * 0.01 + 0.25 * 0.04, atol=1e-6)
    first = climb(_walk(10, point=X, previous=X, step=small), seen, quarry).point
    assert torch.allclose(first, X + 0.01, atol=1e-6)


def test_checks_come_when_the_paper_has_them() -> None:
    """Croce & Hein 2020, section 3: p₀ = 0, p₁ = 0.22, and each way is 0.03 less, 0.06 at least."""
    walk, due = _walk(100), [0]
    while due[-1] + walk.window <= 100:
        due.append(due[-1] + walk.window)
        walk = checked(walk)
    assert due == [0, 22, 41, 57, 70, 80, 87, 93, 99]


def test_a_step_rose_where_the_loss_is_above_the_last_one() -> None:
    """The first look has none before it; then rows rise, fall, or stay."""
    quarry = Quarry(X[:3], Y[:3], Lp("linf", 0.3), keyed(0, IDS[:3]))
    walk, counts = begin_climb(quarry, 100), []
    for losses in ([1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [3.0, 1.0, 1.0], [2.5, 0.5, 1.0]):
        seen = Seen(walk.point, torch.zeros(3, 2), torch.tensor(losses), X[:3], NONE[:3])
        walk = climb(walk, seen, quarry)
        counts.append(walk.rises.tolist())
    assert counts == [[0, 0, 0], [1, 0, 0], [2, 1, 0], [2, 1, 0]]


def test_when_a_step_is_halved() -> None:
    """The paper's two conditions: few steps rose; or none was better and it was not halved before.

    Rows: rises of ten, whether halved at the last check, whether the peak rose since.
    """
    rises = torch.tensor([7.0, 8.0, 8.0, 8.0, 10.0, 0.0])
    halved = torch.tensor([True, False, False, True, False, True])
    rose = torch.tensor([True, True, False, False, False, True])
    walk = _walk(
        100, rises=rises, halved=halved, window=10, step=torch.ones(SAMPLES),
        peak=Peak(X, torch.where(rose, 2.0, 1.0), X), checked=torch.ones(SAMPLES),
    )  # fmt: skip
    after = checked(walk)
    wanted = torch.tensor([True, False, True, False, True, True])
    assert torch.equal(after.halved, wanted)
    assert torch.equal(after.step, torch.where(wanted, 0.5, 1.0))
    assert torch.equal(after.checked, walk.peak.loss)
    assert not bool(after.rises.any())
    # Windows shrink by 3 of 100 moves, down to 6.
    assert (after.window, checked(after).window) == (7, 6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("wall", [False, True], ids=["middle", "wall"])
def test_no_step_leaves_the_ball_or_the_box(norm: Norm, wall: bool) -> None:
    """Starts at random, then ten steps as long as the ball is wide, every way, with momentum."""
    x = torch.full_like(X, 0.98) if wall else X
    threat = Lp(norm, 0.3)
    quarry = Quarry(x, Y, threat, keyed(0, IDS))
    length = threat.budget(x) * 2
    plain, clever = begin_ascent(quarry, length, start=True), begin_climb(quarry, 10)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        slope = torch.randn(X.shape, generator=generator)
        zero = torch.zeros(SAMPLES)
        for walk in (plain, clever) if norm != "l1" else (plain,):
            assert bool(threat.contains(walk.point, x).all())
        plain = ascend(plain, Seen(plain.point, torch.zeros(SAMPLES, 2), zero, slope, NONE), quarry)
        if norm != "l1":
            seen = Seen(clever.point, torch.zeros(SAMPLES, 2), zero, slope, NONE)
            clever = climb(clever, seen, quarry)
    assert bool((plain.point != x).any(1).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_step_is_uphill_and_as_long_as_said(norm: Norm) -> None:
    """In the middle of the box: 0.01 up the slope that is steepest in the norm."""
    quarry = Quarry(X, Y, Lp(norm, 0.3), keyed(0, IDS))
    walk = begin_ascent(quarry, torch.tensor(0.01), start=False)
    slope = torch.linspace(-2, 1, ENTRIES).repeat(SAMPLES, 1)
    seen = Seen(X, torch.zeros(SAMPLES, 2), torch.zeros(SAMPLES), slope, NONE)
    move = ascend(walk, seen, quarry).point - X
    first = torch.eye(ENTRIES)[0].repeat(SAMPLES, 1)
    way = {"linf": slope.sign(), "l2": slope / slope.norm(dim=1)[:, None], "l1": -first}[norm]
    assert torch.allclose(move, 0.01 * way, atol=1e-6)


def test_moves_in_an_l1_ball_go_both_ways() -> None:
    """Uniform in the volume: the size is D / (D + 1) of epsilon on average, each sign as likely."""
    x = torch.zeros(4000, ENTRIES)
    move = in_ball(x, "l1", torch.tensor(2.0), keyed(0, torch.arange(4000)))
    size = distance(move, x, "l1")
    assert size.max() <= 2
    assert float(size.mean()) == pytest.approx(2 * ENTRIES / (ENTRIES + 1), rel=0.01)
    # 32 000 fair coins: the share of heads is within 4 deviations of 0.0028.
    assert float((move > 0).double().mean()) == pytest.approx(0.5, abs=0.0112)
