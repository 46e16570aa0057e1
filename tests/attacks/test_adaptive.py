"""What walks in a ball keep, begin with and go back to, each piece by itself."""

from dataclasses import replace

import pytest
import torch

from trustml.attacks._adaptive import begin_climb, climb
from trustml.attacks._adaptive_l1 import (
    _sparse_step,
    _to_a_vertex,
    begin_sparsely,
    climb_sparsely,
)
from trustml.attacks._pursuit import Best, Peak, Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks.apgd_targeted import apgd_targeted
from trustml.attacks.strongest import _searched
from trustml.contracts import Norm
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

X, Y = torch.full((300, 20), 0.5), torch.zeros(300, dtype=torch.long)
RANDOM = keyed(0, torch.arange(300))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_are_at_the_edge_and_centred(norm: Norm) -> None:
    """Each has length ε; the mean of 6000 entries, none beyond ε, is within 4 ε / √6000."""
    point = begin_climb(Quarry(X, Y, Lp(norm, 0.3), RANDOM), 10).point
    assert distance(point, X, norm).tolist() == pytest.approx([0.3] * 300, rel=1e-3)
    assert abs(float((point - X).mean())) < 4 * 0.3 / 6000**0.5


def test_a_halved_step_goes_on_from_the_peak() -> None:
    """No step of the window rose: with steps of hardly any length the walk is at its peak again."""
    quarry = Quarry(X, Y, Lp("linf", 0.3), RANDOM)
    walk = begin_climb(quarry, 10)
    top = (X + 0.2, torch.ones(300), torch.ones_like(X))
    walk = replace(walk, since=walk.window, step=walk.step * 1e-6, peak=Peak(*top))
    won = torch.zeros(300, dtype=torch.bool)
    seen = Seen(walk.point, torch.zeros(300, 2), torch.zeros(300), -torch.ones_like(X), won)
    assert torch.allclose(climb(walk, seen, quarry).point, X + 0.2, atol=1e-5)


def test_from_the_peak_a_walk_follows_the_peak_s_slope() -> None:
    """Its slope leads down, that of the point where the walk stood up; the step 0.02 is halved."""
    quarry = Quarry(X, Y, Lp("linf", 0.3), RANDOM)
    walk = begin_climb(quarry, 10)
    top = Peak(X + 0.2, torch.ones(300), -torch.ones_like(X))
    walk = replace(walk, since=walk.window, step=torch.full((300,), 0.02), peak=top)
    won = torch.zeros(300, dtype=torch.bool)
    seen = Seen(walk.point, torch.zeros(300, 2), torch.zeros(300), torch.ones_like(X), won)
    assert torch.allclose(climb(walk, seen, quarry).point, X + 0.19, atol=1e-6)


def test_vertices_fill_the_steepest_entries_up_to_their_walls() -> None:
    """Of slopes 0 … 19 a budget of 1.25 takes 19 and 18 to the wall 0.5 away, 17 half as far."""
    quarry = Quarry(X, Y, Lp("l1", 1.25), RANDOM, start=X)
    slope = torch.arange(20.0).repeat(300, 1)
    won = torch.zeros(300, dtype=torch.bool)
    for way in (1, -1):
        seen = Seen(X, torch.zeros(300, 2), torch.zeros(300), way * slope, won)
        move = _to_a_vertex(begin_sparsely(quarry, 1.0, 1), seen, quarry).point - X
        assert move[0, 17:].tolist() == pytest.approx([way * 0.25, way * 0.5, way * 0.5], abs=1e-3)
        assert bool((move[:, :17] == 0).all())


def test_vertices_know_which_wall_is_how_far() -> None:
    """From 0.2 a budget of 1.25 is 0.8 and 0.45 upwards; downwards it is 0.2 six times and 0.05."""
    x = torch.full((1, 20), 0.2)
    quarry = Quarry(x, Y[:1], Lp("l1", 1.25), RANDOM.at(torch.arange(1)), start=x)
    slope = torch.arange(20.0)[None]
    for way, sizes in ((1, [0.0] * 5 + [0.45, 0.8]), (-1, [0.05] + [0.2] * 6)):
        seen = Seen(x, torch.zeros(1, 2), torch.zeros(1), way * slope, Y[:1] > 0)
        move = _to_a_vertex(begin_sparsely(quarry, 1.0, 1), seen, quarry).point - x
        assert (way * move)[0, 13:].tolist() == pytest.approx(sizes, abs=1e-3)


def test_a_sparse_step_moves_its_share_of_the_steepest() -> None:
    """Half of four entries, and a quarter: with L1 norm 1, up the slope."""
    slope = torch.tensor([[0.1, -3.0, 2.0, 0.0]]).repeat(2, 1)
    step = _sparse_step(slope, torch.tensor([0.5, 0.25]))
    assert step.tolist() == [[0.0, -0.5, 0.5, 0.0], [0.0, -1.0, 0.0, 0.0]]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_walks_to_a_target_raise_it(norm: Norm) -> None:
    """The one other class gains with every entry: the best point is the ball's highest."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0] * 0 + 99, x.sum(1)], 1)

    found = apgd_targeted(model, X, Y, Lp(norm, 0.3), random=RANDOM, steps=10, targets=1)
    gained = {"linf": 6.0, "l2": 0.3 * 20**0.5, "l1": 0.3}[norm]
    assert torch.allclose((found - X).sum(1), torch.tensor(gained), rtol=0.02)


def test_sparse_steps_stay_in_the_ball() -> None:
    """A step as long as the ball is wide, from its edge on: the point is on the edge again."""
    quarry = Quarry(X, Y, Lp("l1", 1.25), RANDOM, start=X + 1 / 16)
    walk = begin_sparsely(quarry, 1.0, 10)
    won = torch.zeros(300, dtype=torch.bool)
    slope = torch.arange(1.0, 21.0).repeat(300, 1)
    point = climb_sparsely(
        walk, Seen(walk.point, torch.zeros(300, 2), torch.zeros(300), slope, won), quarry
    ).point
    assert bool((distance(point, X, "l1") <= 1.25).all())


def test_the_best_loser_is_kept_not_the_last() -> None:
    """Losses 1, 3 and 2: the second point stays, until one that has won."""
    best, won = Best(X, torch.full((300,), -torch.inf)), torch.zeros(300, dtype=torch.bool)
    for move, loss in ((0.1, 1.0), (0.2, 3.0), (0.3, 2.0)):
        best = best.or_better(X + move, torch.full((300,), loss), won)
    assert torch.equal(best.point, X + 0.2)
    assert torch.equal(best.or_better(X + 0.4, torch.zeros(300), ~won).point, X + 0.4)


def test_strongest_takes_what_the_last_walks_win() -> None:
    """The search leaves the margin at a tenth of what it was: near; the walks then win."""

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0] * 0 + 0.9, x[:, 0]], 1)

    found = _searched(
        model, X, Y, Lp("linf", 0.5), RANDOM, search=lambda _m, x, *_: x + 0.36,
        walks=lambda _m, x, *_: x + 0.45,
    )  # fmt: skip
    assert torch.equal(found, X + 0.45)


def test_the_first_sparse_step_moves_two_thirds_of_what_the_start_has_moved() -> None:
    """Three of the ten entries differ: 0.3 is the support, and a step moves 0.3 / 1.5 of them."""
    x = torch.full((2, 10), 0.5)
    start = x.clone()
    start[0, :3] += torch.tensor([0.1, -0.1, 0.05])
    quarry = Quarry(x, torch.zeros(2, dtype=torch.long), Lp("l1", 1.0), keyed(0, torch.arange(2)))
    walk = begin_sparsely(replace(quarry, start=start), 1.0, 50)
    assert walk.support.tolist() == pytest.approx([0.3, 0.0])
    assert walk.density.tolist() == pytest.approx([0.2, 0.0])
