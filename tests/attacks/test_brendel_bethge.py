"""Brendel & Bethge: its programme beside scipy's solver, and a curved border by brute force."""

import pytest
import torch
from torch import Tensor

from trustml.attacks._border_moves import Programme, nearer_on_border
from trustml.attacks.brendel_bethge import brendel_bethge
from trustml.contracts import Norm
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

ENTRIES, ROWS = 5, 12
FLAT = torch.tensor([2.0, 1.0]).double()
ORDER = {"l2": 2, "l1": 1, "linf": torch.inf}


def programme(norm: Norm, radius: float, gap: float = 0.1) -> Programme:
    """Random inputs and points of a box, planes near the points."""
    generator = torch.Generator().manual_seed(5)
    x, point = torch.rand(2, ROWS, ENTRIES, generator=generator).double()
    point = torch.where(point < 0.2, 0.0, point)
    slope = torch.randn(ROWS, ENTRIES, generator=generator).double()
    return Programme(
        x - point, slope / slope.abs().amax(1, keepdim=True),
        gap * torch.randn(ROWS, generator=generator).double(), -point, 1 - point,
        torch.full((ROWS,), radius).double(), torch.ones(ROWS, dtype=torch.bool), norm,
    )  # fmt: skip


def solved(wanted: Programme, row: int) -> float:
    """Return the least ‖home − move‖ of one row, in its norm, by scipy."""
    import numpy as np
    from scipy.optimize import minimize

    home, slope, low, high = (
        part[row].numpy() for part in (wanted.home, wanted.slope, wanted.low, wanted.high)
    )
    gap, radius = float(wanted.gap[row]), float(wanted.radius[row])
    # One more variable an entry (Linf: one in all) bounds what is left, so that all is smooth.
    parts = {"l2": 0, "l1": ENTRIES, "linf": 1}[wanted.norm]

    def bound(z: np.ndarray, way: int) -> np.ndarray:
        return z[ENTRIES:] - way * (z[:ENTRIES] - home)

    constraints = [
        {"type": "eq", "fun": lambda z: slope @ z[:ENTRIES] - gap},
        {"type": "ineq", "fun": lambda z: radius**2 - z[:ENTRIES] @ z[:ENTRIES]},
    ]
    if parts:
        constraints += [{"type": "ineq", "fun": bound, "args": (way,)} for way in (1, -1)]
    best = np.inf
    for start in (np.zeros(ENTRIES), 0.1 * home, gap * slope / (slope @ slope)):
        z = np.r_[start, np.full(parts, 2.0)]
        answer = minimize(
            (lambda z: z[ENTRIES:].sum()) if parts else (lambda z: (z - home) @ (z - home)), z,
            constraints=constraints, method="SLSQP", options={"maxiter": 300, "ftol": 1e-12},
            bounds=[*zip(low, high, strict=True), *[(0, None)] * parts],
        )  # fmt: skip
        if answer.success:
            best = min(best, answer.fun if parts else answer.fun**0.5)
    return float(best)


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
@pytest.mark.parametrize("radius", [0.05, 3.0])
def test_moves_are_allowed_and_all_but_the_best(norm: Norm, radius: float) -> None:
    """SLSQP's optimum: how much nearer to home a step comes, as a share of what it could.

    The plane may be missed by 5 % of the gap, as steps aim 10 % beyond or before it.
    """
    wanted = programme(norm, radius, gap=0.1 * min(radius, 1))
    move = nearer_on_border(wanted)
    assert bool(((move >= wanted.low - 1e-12) & (move <= wanted.high + 1e-12)).all())
    assert bool((move.norm(dim=1) <= radius * (1 + 1e-6)).all())
    off = (wanted.slope * move).sum(1) - wanted.gap
    assert bool((off.abs() <= 0.051 * wanted.gap.abs()).all())
    before = wanted.home.norm(p=ORDER[norm], dim=1)
    after = (wanted.home - move).norm(p=ORDER[norm], dim=1)
    gains = []
    for row in range(ROWS):
        least = solved(wanted, row)
        assert after[row] >= least - 0.1 * wanted.gap[row].abs() - 1e-6
        gains.append(float((before[row] - after[row]) / (before[row] - least)))
    assert sum(gains) / ROWS > {"l2": 0.99, "l1": 0.85, "linf": 0.6}[norm]


def test_a_plane_out_of_reach_is_gone_towards() -> None:
    """Straight along the shortest way, exactly as far as the radius."""
    wanted = programme("l2", 0.01, gap=50.0)
    move = nearer_on_border(wanted)
    climbed = (wanted.slope * move).sum(1) * wanted.gap.sign()
    assert bool((climbed > 0).all())
    assert torch.allclose(move.norm(dim=1), wanted.radius)


def test_who_has_lost_goes_to_the_plane_only() -> None:
    """The foot of the point on the plane where no wall is near: gap · slope / ‖slope‖²."""
    wanted = programme("l1", 0.5, gap=1e-4)
    inside = ((wanted.low < -0.01) & (wanted.high > 0.01)).all(1)
    lost = Programme(
        wanted.home, wanted.slope, wanted.gap, wanted.low, wanted.high, wanted.radius,
        torch.zeros(ROWS, dtype=torch.bool), "l1",
    )  # fmt: skip
    foot = wanted.slope * (wanted.gap / wanted.slope.square().sum(1))[:, None]
    assert int(inside.sum()) > 2
    assert torch.allclose(nearer_on_border(lost)[inside], foot[inside], atol=1e-9)


def test_entries_go_home_in_l0() -> None:
    """With all the room there is, no more than three entries have to stay away for one plane."""
    move = nearer_on_border(programme("l0", 9.0))
    wanted = programme("l0", 9.0)
    assert bool(((move != wanted.home).sum(1) <= 3).all())


def ellipse(z: Tensor) -> Tensor:
    """Class 1 outside of an ellipse twice as wide as it is high."""
    lead = (z / FLAT).square().sum(1) - 1
    return torch.stack([torch.zeros_like(lead), lead], 1)


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
def test_an_ellipse(norm: Norm) -> None:
    """Brute force along the border: the nearest to within 1 %, in each norm another point."""
    x = torch.tensor([[0.9, 0.3], [0.6, -0.4], [-1.1, 0.35], [-0.7, -0.5]]).double()
    y = torch.zeros(4, dtype=torch.long)
    turn = torch.linspace(0, 2 * torch.pi, 20001).double()
    border = torch.stack([turn.cos(), turn.sin()], 1) * FLAT
    least = torch.cdist(x, border, p=ORDER[norm]).amin(1)
    found = brendel_bethge(ellipse, x, y, Lp(norm, float("inf"), -3, 3), random=keyed(0, y))
    far = distance(found, x, norm)
    assert bool((ellipse(found).argmax(1) == 1).all())
    assert bool((far >= least * (1 - 1e-3)).all())
    assert bool((far <= least * 1.01).all())


def test_steps_end_beyond_a_flat_border() -> None:
    """From beyond it a step goes 0.9 of the way to the border, so no look of the walk is lost."""
    leads: list[Tensor] = []

    def flat(z: Tensor) -> Tensor:
        lead = z[:, 0] + 2 * z[:, 1] - 1.7
        leads.append(lead.detach())
        return torch.stack([torch.zeros_like(lead), lead], 1)

    x, y = torch.tensor([[0.3, 0.4], [0.1, 0.5]]).double(), torch.zeros(2, dtype=torch.long)
    brendel_bethge(flat, x, y, Lp("l2", float("inf")), random=keyed(0, y), steps=12)
    # The last 8 looks halve the way back; of the 12 before them the first are above rounding.
    assert all(bool((lead > 0).all()) for lead in leads[-20:-14])


def test_where_slopes_lead_nowhere_a_start_is_drawn() -> None:
    """Steps have no slope to follow far from the border; noise finds the other side."""

    def plateau(z: Tensor) -> Tensor:
        lead = (z.flatten(1).mean(1) - 0.35).clamp(-0.05, 0.05)
        return torch.stack([torch.zeros_like(lead), lead], 1)

    x, y = torch.zeros(6, 1, 4, 4), torch.zeros(6, dtype=torch.long)
    found = brendel_bethge(
        plateau, x, y, Lp("linf", float("inf")), random=keyed(0, torch.arange(6))
    )
    assert bool((plateau(found).argmax(1) == 1).all())
    assert bool((distance(found, x, "linf") <= 0.36).all())


@pytest.mark.parametrize("options", [{"steps": 0}, {"rate": 0.0}, {"momentum": 1.0}], ids=str)
def test_bad_options_are_refused(options: dict[str, float]) -> None:
    x, y = torch.rand(2, 2).double(), torch.zeros(2, dtype=torch.long)
    with pytest.raises(BadOption, match=next(iter(options))):
        brendel_bethge(ellipse, x, y, Lp("l2", 1.0), random=keyed(0, y), **options)
