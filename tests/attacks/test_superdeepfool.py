"""SuperDeepFool: a curved border, where the nearest point is not the one that slopes lead to."""

import torch
from torch import Tensor

from trustml.attacks.deepfool import deepfool
from trustml.attacks.superdeepfool import superdeepfool
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

FLAT = torch.tensor([2.0, 1.0]).double()


def ellipse(z: Tensor) -> Tensor:
    """Class 1 outside of an ellipse twice as wide as it is high."""
    lead = (z / FLAT).square().sum(1) - 1
    return torch.stack([torch.zeros_like(lead), lead], 1)


def test_an_ellipse() -> None:
    """Brute force along the border: the nearest to within 1 %, where DeepFool is farther."""
    x = torch.tensor([[0.9, 0.3], [0.6, -0.4], [-1.1, 0.35], [-0.7, -0.5]]).double()
    y = torch.zeros(4, dtype=torch.long)
    threat = Lp("l2", float("inf"), -3, 3)
    turn = torch.linspace(0, 2 * torch.pi, 20001).double()
    border = torch.stack([turn.cos(), turn.sin()], 1) * FLAT
    least = torch.cdist(x, border).amin(1)
    found, other = (
        distance(attack(ellipse, x, y, threat, random=keyed(0, y)), x, "l2")
        for attack in (superdeepfool, deepfool)
    )
    assert bool((found >= least * (1 - 1e-6)).all())
    assert bool((found <= least * 1.01).all())
    assert bool((other > found * 1.01).any())
