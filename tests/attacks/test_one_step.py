"""First steps of walks towards the nearest winner, worked out by hand from what the papers say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trustml.attacks import carlini_wagner as bent
from trustml.attacks import ead as elastic
from trustml.attacks._descent import see_margin
from trustml.attacks._nearest import Nearest
from trustml.attacks._quarry import Quarry
from trustml.attacks.fmn import Ball, _radius
from trustml.attacks.sigma_zero import Sparse, _put_back
from trustml.contracts import Norm
from trustml.randomness import keyed
from trustml.registry import get
from trustml.threats import Lp

ENTRIES = 16
BOX = (-1.0, 1.0)
X, Y = torch.zeros(1, ENTRIES), torch.zeros(1, dtype=torch.long)
FIRST = torch.linspace(-1, 2, ENTRIES)
SECOND = FIRST.flip(0)


def walked(name: str, norm: Norm, lead: Callable[[int, Tensor], Tensor], **options: Any) -> Tensor:
    """Return the points (looks, D) that the attack looks at; look 0 is not one of the walk.

    `lead` (B,) of class 1 over class 0 may differ from look to look.
    """
    seen: list[Tensor] = []

    def model(z: Tensor) -> Tensor:
        ahead = lead(len(seen), z)
        seen.append(z.detach().clone())
        return torch.stack([torch.zeros_like(ahead), ahead], 1)

    get("attack", name).function(
        model, X, Y, Lp(norm, float("inf"), *BOX), random=keyed(0, Y), **options
    )
    return torch.cat(seen)


def test_ddn_turns_its_direction_and_scales_it_to_its_sphere() -> None:
    """Rony et al. 2019, algorithm 1: δ ← δ + α g / ‖g‖ put onto ε (1 ± γ), then into the box.

    The first sphere is as wide as the box; the look after the first lost, the next one won.
    """

    def lead(look: int, z: Tensor) -> Tensor:
        return z @ (FIRST if look <= 1 else SECOND) + (9.0 if look == 2 else -9.0)

    points = walked("ddn", "l2", lead, steps=3, change=0.1)
    one, two = FIRST / FIRST.norm(), SECOND / SECOND.norm()
    assert torch.equal(points[1], X[0])
    assert torch.allclose(points[2], (2.2 * one).clamp(*BOX), atol=1e-5)
    # A third of the way along a cosine from 1 to 0.01, in widths of the box.
    pace = 2 * (0.01 + 0.99 * 0.75)
    onward = points[2] + pace * two
    expected = (2.2 * 0.9 * onward / onward.norm()).clamp(*BOX)
    assert torch.allclose(points[3], expected, atol=1e-5)


@pytest.mark.parametrize(("norm", "order"), [("l2", 2.0), ("linf", 1.0)])
def test_deepfool_goes_a_little_beyond_the_plane(norm: Norm, order: float) -> None:
    """Moosavi-Dezfooli et al. 2016: |f| / ‖w‖ in the dual norm, 2 % farther; 1e-4 of the box."""

    def lead(_: int, z: Tensor) -> Tensor:
        return z @ FIRST - 0.5

    points = walked("deepfool", norm, lead)
    way = FIRST / FIRST.norm() if norm == "l2" else FIRST.sign()
    far = 0.5 / FIRST.norm(p=order) + 2e-4
    # The inputs at rest, and once more for the order of classes.
    assert torch.allclose(points[3], 1.02 * far * way, atol=1e-6)


def test_deepfool_begins_anew_after_half_of_its_steps() -> None:
    """Nothing is ever won: of ten looks the first and the sixth are at the input."""
    points = walked("deepfool", "l2", lambda _, z: z @ FIRST - 99.0, steps=10)
    home = (points[2:] == X).all(1)
    assert home.tolist() == [number in (0, 5) for number in range(10)]


def test_ead_takes_steps_of_fista() -> None:
    """Chen et al. 2018, equations 6 and 7: S_β(y − α ∇g(y)), then on by k / (k + 3) of the move.

    ∇g is twice the move less c times the slope, in widths of the box; nothing is won yet.
    """
    rate, beta, steps = 0.01, 0.01, 10
    points = walked(
        "ead", "l1", lambda _, z: z @ FIRST - 99.0, rate=rate, beta=beta, steps=steps, searches=1
    )
    slope, wide = FIRST, 2.0
    weight = elastic._FIRST * beta / (rate * float(slope.abs().max()) * wide)

    def shrunk(move: Tensor) -> Tensor:
        return move.sign() * (move.abs() - beta).clamp_min(0)

    one = shrunk(rate * weight * wide * slope)
    assert torch.allclose(points[2], wide * one, atol=1e-6)
    pace = rate * (1 - 1 / steps) ** 0.5
    two = shrunk(one - pace * (2 * one - weight * wide * slope))
    assert torch.allclose(points[3], wide * (two + (two - one) / 4), atol=1e-6)
    assert bool((one != 0).any())


def test_sigma_zero_puts_small_moves_back() -> None:
    """A tenth of a box that is 2 wide is 0.2: what moved less is at home, the rest where it was."""
    move = torch.linspace(-0.75, 0.75, ENTRIES)[None]
    still, least = torch.zeros_like(X), torch.tensor([0.1]).double()
    quarry = Quarry(X, Y, Lp("l0", 9.0, *BOX), keyed(0, Y))
    found = _put_back(Sparse(move, still, still, least), quarry).point
    assert torch.equal(found, torch.where(move.abs() < 0.2, 0.0, move))


# Won at weight 1; lost at it without a winner; lost at it while 3 is known to win.
WON = torch.tensor([True, False, False])
LEAST, MOST = torch.tensor([0.0, 0.0, 0.5]), torch.tensor([torch.inf, torch.inf, 3.0])
THREE, NO = torch.zeros(3, ENTRIES), torch.zeros(3, dtype=torch.long)


def test_ead_halves_the_weights_between_those_that_lost_and_won() -> None:
    """Between 0 and 1, tenfold, and between 1 and 3; each search begins at the input."""
    walk = elastic.Elastic(THREE + 1, THREE + 1, torch.ones(3), LEAST, MOST, WON, 7)
    quarry = Quarry(THREE, NO, Lp("l1", 1.0, *BOX), keyed(0, torch.arange(3)))
    after = elastic._search_anew(walk, quarry)
    assert after.weight.tolist() == [0.5, 10.0, 2.0]
    assert after.least.tolist() == [0.0, 1.0, 1.0]
    assert after.most.tolist() == [1.0, torch.inf, 3.0]
    assert torch.equal(after.point, THREE)
    assert (after.step, after.won.tolist()) == (0, [False] * 3)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_carlini_wagner_searches_by_halves(norm: Norm) -> None:
    """L2: weights as above. Linf: limits, of which the best distance is the largest that won.

    Row 0 won at 0.75: half of that is next, from where it stands. The others begin anew: twice the
    limit that failed where nothing has won, else half way.
    """
    quarry = Quarry(THREE, NO, Lp(norm, 1.0, *BOX), keyed(0, torch.arange(3)))
    fresh = bent._begin(quarry, 0.99)
    walk = replace(
        fresh, weight=torch.ones(3), limit=torch.ones(3), least=LEAST, most=MOST, won=WON,
        place=fresh.place + 1, bent=fresh.bent + 0.5, point=fresh.point + 0.5, step=7,
    )  # fmt: skip
    best = Nearest(THREE, torch.tensor([0.75, torch.inf, 3.0]).double())
    after = bent._search_anew(walk, fresh, quarry, best)
    assert after.step == 0
    if norm == "l2":
        assert after.weight.tolist() == [0.5, 10.0, 2.0]
        assert torch.equal(after.place, fresh.place)
        return
    assert after.limit.tolist() == [0.375, 2.0, 2.0]
    assert after.weight[0] == 1
    assert bool((after.weight[1:] > 1).all())
    for name in ("place", "bent", "point"):
        old, new, begun = (getattr(part, name) for part in (walk, after, fresh))
        assert torch.equal(new, torch.where(WON[:, None], old, begun)), name


def test_fmn_s_balls_of_entries_change_by_one_at_least() -> None:
    """A tenth of two entries is none: still one less after a winner, one more after a loser."""
    x, y = torch.zeros(2, ENTRIES), torch.zeros(2, dtype=torch.long)
    quarry = Quarry(x, y, Lp("l0", 9.0, *BOX), keyed(0, torch.arange(2)))
    walk = Ball(torch.stack([x[0] + 0.5, x[1]]), torch.full((2,), 2.0).double())
    known = Nearest(walk.point, torch.full((2,), 9.0).double())

    def model(z: Tensor) -> Tensor:
        ahead = z[:, 0] - 0.1
        return torch.stack([-ahead, ahead], 1)

    assert _radius(walk, see_margin(model, walk, quarry), quarry, known, 0.1).tolist() == [1.0, 3.0]
