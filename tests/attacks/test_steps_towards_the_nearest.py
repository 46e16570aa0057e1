"""What BIM and the newer minimum-norm attacks refuse, count and put back."""

from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.access import Handed
from trustml.attacks._descent import annealed, see_margin, unit
from trustml.attacks._nearest import Nearest
from trustml.attacks._pursuit import Seen
from trustml.attacks._quarry import Quarry
from trustml.attacks._thinning import thinned
from trustml.attacks.bim import bim
from trustml.attacks.fmn import Ball, _gap, _on_ball, _radius
from trustml.attacks.pdpgd import _nearer
from trustml.attacks.pgd import pgd
from trustml.attacks.sigma_zero import Sparse, _moved
from trustml.contracts import Access, Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp

X, Y = torch.full((4, 6), 0.5), torch.zeros(4, dtype=torch.long)
RANDOM = keyed(0, torch.arange(4))


def rising(x: Tensor) -> Tensor:
    """Class 1 where Σ i · xᵢ, i = 1…6, exceeds 15."""
    return torch.stack([x[:, 0] * 0 + 15, x @ torch.arange(1.0, 7.0)], 1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_bim_is_pgd_without_a_random_start(norm: Any) -> None:
    """The same walk, given the same step; by default four times as long as epsilon."""
    threat = Lp(norm, 0.3)
    same = pgd(rising, X, Y, threat, random=RANDOM, steps=10, step=0.3 * 4.0 / 10, start=False)
    assert torch.equal(bim(rising, X, Y, threat, random=RANDOM), same)
    assert not torch.equal(same, X)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bim", {"steps": 0}), ("bim", {"step": 0.0}), ("ddn", {"steps": 0}),
        ("ddn", {"rate": 0.0}), ("ddn", {"change": 1.0}), ("deepfool", {"steps": 0}),
        ("deepfool", {"classes": 1}), ("deepfool", {"overshoot": -0.1}), ("ead", {"searches": 0}),
        ("ead", {"beta": 0.0}), ("fmn", {"rate": 0.0}), ("fmn", {"change": 1.5}),
        ("fmn", {"last_change": 0.5}), ("pdpgd", {"steps": 0}), ("pdpgd", {"first_ratio": 0.0}),
        ("sigma_zero", {"steps": 0}), ("sigma_zero", {"least": 1.0}),
    ],
)  # fmt: skip
def test_options_out_of_range(name: str, options: dict[str, Any]) -> None:
    """The message says which attack, which option and what was given."""
    plugin, (option, value) = get("attack", name), *options.items()
    with pytest.raises(BadOption, match=f"^{name}: .*{option}={value}"):
        plugin.function(
            rising, X, Y, Lp(plugin.facts["norms"][0], 1.0), random=RANDOM, **options
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "norm", "forwards", "backwards"),
    [
        ("ddn", "l2", 1 + 7, 7), ("fmn", "l1", 1 + 7, 7), ("fmn", "l0", 1 + 7 + 1 + 20, 7 + 1),
        ("pdpgd", "linf", 1 + 7, 7), ("sigma_zero", "l0", 1 + 7 + 1 + 20, 7 + 1),
    ],
)  # fmt: skip
def test_passes_are_as_many_as_said(name: str, norm: Any, forwards: int, backwards: int) -> None:
    """One look at the inputs and a pass each way a step; L0: one more, and 20 tries, if it won."""
    handed = Handed(rising, Access.GRADIENTS, 4, block=4)
    options = {"steps": 7}
    get("attack", name).function(handed, X, Y, Lp(norm, 6.0), random=RANDOM, **options)
    assert handed.forwards.tolist() == [forwards] * 4
    assert handed.backwards.tolist() == [backwards] * 4


def test_thinning_keeps_just_what_is_needed() -> None:
    """At the walls entries give i / 2 each; 4.5 are lacking: 5 and 6 give 5.5, no one 4.5."""
    quarry = Quarry(X, Y, Lp("l0", 6.0), RANDOM)
    winner = torch.ones_like(X)
    known = Nearest(winner, distance(winner, X, "l0"))
    found = thinned(rising, quarry, known, 12)
    assert found.distance.tolist() == [2.0] * 4
    assert torch.equal(found.point[0], torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0, 1.0]))


def test_steps_fall_and_directions_have_length_one() -> None:
    """Half way a cosine stands in the middle; no slope is too small to have a direction."""
    assert [annealed(1.0, 0.0, step, 4) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
    moves = torch.tensor([[3.0, 4.0], [3e-30, 4e-30], [0.0, 0.0]])
    assert torch.allclose(unit(moves), torch.tensor([[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]]))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_proximal_steps_are_exact(norm: Norm) -> None:
    """No move near it or in any subset of the entries has less Σ s · (m − g)² / 2 + w · ‖m‖.

    The sum is convex but for L0, so what is lowest nearby is lowest; L0 keeps some entries whole.
    """
    torch.manual_seed(2)
    goal, weight = torch.randn(40, 5).double(), 10 ** (4 * torch.rand(40, 1).double() - 2)
    stiff = 10 ** (3 * torch.rand(40, 5).double() - 1)

    def cost(move: Tensor) -> Tensor:
        order = {"linf": torch.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}[norm]
        size = torch.linalg.vector_norm(move, ord=order, dim=-1)
        return (stiff * (move - goal).square() / 2).sum(-1) + weight[:, 0] * size

    found = _nearer(goal, stiff, weight, norm)
    kept = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 5).double()
    others = found + 1e-4 * torch.randn(500, 40, 5) if norm != "l0" else kept[:, None] * goal
    assert bool((cost(found) <= cost(others) + 1e-9).all())
    assert bool((cost(found) <= cost(torch.zeros_like(goal)) + 1e-9).all())
    assert 0 < (found == 0).all(1).sum() < 40, "some weights are too heavy for any move"


def test_an_infinite_budget_leaves_open_what_has_nothing() -> None:
    """Row 0 has nothing yet; row 1 has a point, which is inside; without the wish to stop, both."""
    known = Nearest(X[:2], torch.tensor([torch.inf, 3.0]).double())
    assert known.open(Lp("l2", torch.inf), True).tolist() == [0]
    assert known.open(Lp("l2", torch.inf), False).tolist() == [0, 1]
    assert known.open(Lp("l2", 2.0), True).tolist() == [0, 1]


def test_fmn_steps_end_on_spheres_in_l2_and_within_balls_elsewhere() -> None:
    """Away from the walls a short step reaches the sphere in L2; in Linf it stays short."""
    radius, onward = torch.full((4,), 0.3).double(), X + 0.001
    on_sphere = _on_ball(onward, radius, Quarry(X, Y, Lp("l2", 1.0), RANDOM))
    assert torch.allclose(distance(on_sphere, X, "l2"), radius, rtol=1e-4)
    assert torch.equal(_on_ball(onward, radius, Quarry(X, Y, Lp("linf", 1.0), RANDOM)), onward)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_deepfool_goes_along_a_wall_where_the_steep_way_is_closed(norm: Any) -> None:
    """The steep entry stands at its wall: only the other helps, and has to move by 2 / 3."""

    def walled(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] * 0, 10 * (x[:, 0] - 1) + 0.3 * x[:, 1] - 0.2], 1)

    x, y = torch.tensor([[1.0, 0.0]]), torch.zeros(1, dtype=torch.long)
    found = get("attack", "deepfool").function(
        walled, x, y, Lp(norm, torch.inf), random=keyed(0, torch.arange(1)), steps=10
    )
    assert found[0].tolist() == pytest.approx([1.0, 2 / 3], rel=0.01)


def test_the_nearest_winner_is_kept_not_the_last() -> None:
    """Distances 2, 1 and 3, all won but the nearest of row 1, whose 2 then is the nearest."""
    quarry, known = (
        Quarry(X[:2], Y[:2], Lp("l0", 6.0), RANDOM),
        Nearest(X[:2], X[:2, 0] + torch.inf),
    )
    for count, won in ((2, [True, True]), (1, [True, False]), (3, [True, True])):
        point = X[:2].clone()
        point[:, :count] = 1.0
        known = known.or_nearer(point, torch.tensor(won), quarry)
    assert known.distance.tolist() == [1.0, 2.0]
    assert distance(known.point, X[:2], "l0").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("norm", "far"), [("linf", 4.5 / 21), ("l2", 4.5 / 91**0.5), ("l1", 4.5 / 6), ("l0", 2.0)]
)
def test_fmn_knows_how_far_an_affine_border_is(norm: Norm, far: float) -> None:
    """4.5 are lacking; in L0 the entries 6 and 5 give 3 and 2.5 at their walls."""
    quarry = Quarry(X, Y, Lp(norm, torch.inf), RANDOM)
    walk = Ball(X, torch.full((4,), torch.inf).double())
    seen = see_margin(rising, walk, quarry)
    assert _gap(seen, quarry).tolist() == pytest.approx([far] * 4)


def test_fmn_balls_shrink_after_a_winner_to_the_nearest_at_most_and_grow_after_a_loser() -> None:
    """Of radius 2 and change 0.1: 1.8, or 1 where a point at distance 1 is known; else 2.2."""
    quarry = Quarry(X[:3], Y[:3], Lp("l1", torch.inf), RANDOM)
    point = torch.stack([X[0] + 0.5, X[0] + 0.5, X[0]])
    walk = Ball(point, torch.full((3,), 2.0).double())
    nearest = Nearest(point, torch.tensor([1.9, 1.0, 1.9]).double())
    radius = _radius(walk, see_margin(rising, walk, quarry), quarry, nearest, 0.1)
    assert radius.tolist() == pytest.approx([1.8, 1.0, 2.2])


def test_sigma_zero_draws_winners_home() -> None:
    """Where a point has won only the count pulls: Adam's first step is the pace, towards x."""
    quarry, still, won = Quarry(X, Y, Lp("l0", 6.0), RANDOM), torch.zeros_like(X), Y == 0
    walk = Sparse(X + 0.3, still, still, torch.zeros(4).double())
    seen = Seen(walk.point, torch.zeros(4, 2), torch.zeros(4), torch.ones_like(X), won)
    assert torch.allclose(_moved(walk, seen, quarry, 0.1).point, X + 0.2, atol=1e-4)
