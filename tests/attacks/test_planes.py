"""Planes: the nearest by hand; the shortest moves onto one in the box, against the closed form."""

import pytest
import torch

from trustml.affine import minimal_distance
from trustml.attacks._planes import nearest_rival, onto_plane
from trustml.contracts import Norm

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")
ORDER = {"linf": torch.inf, "l2": 2.0, "l1": 1.0, "l0": 0.0}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("entries", [3, 200])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_plane_is_reached_on_the_shortest_way(norm: Norm, entries: int, sign: int) -> None:
    """Shares of the farthest that the box allows; half the entries stand at walls."""
    start = torch.rand(40, entries, dtype=torch.float64)
    start = torch.where(torch.rand_like(start) < 0.5, start.round(), start)
    slope = torch.randn_like(start) * torch.rand_like(start) ** 3
    slope[:, 0] = 0
    uphill = sign * slope
    most = (uphill.abs() * torch.where(uphill > 0, 1 - start, start)).sum(1)
    gap = sign * torch.linspace(0, 0.95, 40, dtype=torch.float64) * most
    move = onto_plane(start, slope, gap, norm, (0.0, 1.0))
    assert torch.allclose((slope * move).sum(1), gap, rtol=1e-9, atol=1e-12)
    assert bool((start + move >= -1e-12).all())
    assert bool((start + move <= 1 + 1e-12).all())
    length = torch.linalg.vector_norm(move, ord=ORDER[norm], dim=1)
    # By how little the gap of 0 is missed is a matter of rounding, and one entry in L0.
    for row in range(norm == "l0", 40):
        # Class 1 ties class 0 just where slope · move is the gap.
        weight = torch.stack([0 * slope[row], uphill[row]])
        bias = torch.stack([gap[row] * 0, -(uphill[row] @ start[row]) - sign * gap[row]])
        here = start[row : row + 1]
        least = minimal_distance(
            weight, bias, here, torch.zeros(1, dtype=torch.long), norm, (0.0, 1.0)
        )
        assert torch.allclose(length[row : row + 1], least, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_out_of_reach_all_that_helps_goes_to_its_wall(norm: Norm) -> None:
    """Twice the farthest is asked: each entry with a slope goes as far as it can."""
    start = torch.tensor([[0.2, 0.5, 1.0]])
    move = onto_plane(start, torch.tensor([[1.0, -2.0, 3.0]]), torch.tensor([9.0]), norm, (0, 1))
    assert torch.allclose(move, torch.tensor([[0.8, -0.5, 0.0]]))


@pytest.mark.parametrize("norm", NORMS)
def test_no_slope_and_no_gap_is_no_move(norm: Norm) -> None:
    """A flat model, and a start on the plane; and slopes whose squares float32 cannot hold."""
    start, slope = torch.full((3, 2), 0.5), torch.tensor([[0.0, 0.0], [1.0, 2.0], [2e-30, 1e-30]])
    move = onto_plane(start, slope, torch.tensor([1.0, 0.0, 1e-31]), norm, (0.0, 1.0))
    assert torch.equal(move[:2], torch.zeros(2, 2))
    assert torch.allclose((move[2:] * slope[2:] * 1e31).sum(1), torch.ones(1))


@pytest.mark.parametrize(("norm", "nearest"), [("linf", 2), ("l2", 1), ("l1", 1)])
def test_the_nearest_rival_is_so_in_the_norm_asked_for(norm: Norm, nearest: int) -> None:
    """Class 0 leads by 3 and by 4; L1 lengths of the slopes are 3 and 5, L2 lengths 3 and 3.54.

    So the planes are 3/3 and 4/5 away in Linf (over the L1 length), 1 and 4/3.54 in L2, 1 and 4/2.5
    in L1. Rivals may be listed in any order, and each row has its own class.
    """
    weight = torch.tensor([[0.0, 3.0, 2.5], [0.0, 0.0, 2.5]])
    point = torch.zeros(2, 2, requires_grad=True)
    logits = point @ weight + torch.tensor([0.0, -3.0, -4.0])
    logits = torch.stack([logits[0], logits[1, [1, 0, 2]]])  # the second row's own class is 1
    y, rivals = torch.tensor([0, 1]), torch.tensor([[1, 2], [2, 0]])
    lead, slope = nearest_rival(logits, point, y, rivals, norm)
    assert lead.tolist() == [[-3.0, -4.0][nearest - 1]] * 2
    assert slope.tolist() == [weight[:, nearest].tolist()] * 2
