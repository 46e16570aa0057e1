"""linear_exact: the nearest misread points of affine models, and refusal of all others."""

import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from tests.attacks.conftest import Linear
from trustml.attacks.linear_exact import linear_exact
from trustml.contracts import Norm
from trustml.errors import NotApplicable
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

IDS = torch.arange(64)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_distances_are_those_of_a_linear_program(linear: Linear, norm: Norm) -> None:
    """Truth: scipy's HiGHS on min ‖δ‖ with one class ahead, box included, for each class."""
    found = linear.distances(norm)
    weight, bias = linear.weight.double().numpy(), linear.bias.double().numpy()
    for row in range(6):
        x, y = linear.x[row].flatten().double().numpy(), int(linear.y[row])
        best = float("inf")
        for rival in range(5):
            if rival == y:
                continue
            slope = weight[rival] - weight[y]
            gap = -(slope @ x + bias[rival] - bias[y])
            size = len(x)
            if norm == "l1":  # δ = up − down, least sum
                cost, rows, ends = [1.0] * (2 * size), [[*-slope, *slope]], [-gap]
                bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
            else:  # δ and t, −t ≤ δ ≤ t, least t
                cost, rows, ends = [0.0] * size + [1.0], [[*-slope, 0.0]], [-gap]
                for entry in range(size):
                    for sign in (1.0, -1.0):
                        line = [0.0] * (size + 1)
                        line[entry], line[-1] = sign, -1.0
                        rows.append(line)
                        ends.append(0.0)
                bounds = [(-v, 1 - v) for v in x] + [(0, None)]
            answer = linprog(cost, A_ub=rows, b_ub=ends, bounds=bounds)
            best = min(best, answer.fun if answer.success else float("inf"))
        assert found[row].item() == pytest.approx(best, rel=2e-5)


def test_far_from_the_walls_the_l2_distance_is_the_margin_over_the_slope() -> None:
    """The textbook formula: min over classes of (z_y − z_k) / ‖w_k − w_y‖."""
    layer = nn.Linear(30, 4)
    x = torch.full((20, 30), 0.5) + 0.05 * torch.randn(20, 30)
    y = layer(x).argmax(1)
    moved = linear_exact(layer, x, y, Lp("l2", 5.0), random=keyed(0, torch.arange(20)))  # type: ignore[arg-type]
    z = layer(x).detach().double()
    slope = (layer.weight[None] - layer.weight[y][:, None]).detach().double().norm(dim=2)
    ratio = (z.gather(1, y[:, None]) - z) / slope
    ratio[torch.arange(20), y] = torch.inf
    assert torch.allclose(distance(moved, x, "l2"), ratio.amin(1), rtol=1e-3)
    assert bool((layer(moved).argmax(1) != y).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_it_fools_just_what_is_within_reach(linear: Linear, norm: Norm, share: float) -> None:
    """Below the exact distance nothing, above it everything (by a hair's breadth of rounding)."""
    far = linear.distances(norm)
    epsilon = share * float(far[far.isfinite()].median())
    threat = Lp(norm, float(int(epsilon)) if norm == "l0" else epsilon)
    moved = linear_exact(linear.model, linear.x, linear.y, threat, random=keyed(0, IDS))
    assert bool(threat.contains(moved, linear.x).all())
    fooled = linear.model(moved).argmax(1) != linear.y
    clear = (far / threat.epsilon - 1).abs() > 1e-4 if norm != "l0" else torch.ones_like(fooled)
    assert torch.equal(fooled[clear], (far <= threat.epsilon)[clear])


def test_a_bend_is_noticed(linear: Linear) -> None:
    """A ReLU network is not affine: no number is better than a wrong one."""
    bent = nn.Sequential(nn.Flatten(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 5))
    with pytest.raises(NotApplicable, match=r"affine|linear"):
        linear_exact(bent, linear.x, linear.y, Lp("linf", 0.1), random=keyed(0, IDS))  # type: ignore[arg-type]
