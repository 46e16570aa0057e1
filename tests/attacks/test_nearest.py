"""What minimum-norm attacks end with: the way from the input to what won, halved to the border."""

import torch
from torch import Tensor

from trustml.attacks._nearest import Nearest, drawn_in
from trustml.attacks._quarry import Quarry
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

SAMPLES, HALVINGS = 5, 8
# Where each sample's border lies on the way from the input (0) to the point that won (1).
BORDERS = torch.tensor([0.03, 0.25, 0.5, 0.71, 0.999])
START, WON = 0.1, 0.9


def misread(points: Tensor) -> Tensor:
    """Answer class 1 beyond each sample's border, and 0 before it: logits (B, 2)."""
    beyond = (points[:, 0] >= START + BORDERS * (WON - START)).float()
    return torch.stack([1 - beyond, beyond], 1)


def test_the_way_is_halved_to_just_behind_the_border() -> None:
    """After n halvings the point is misread and at most 2^-n of the way behind the border."""
    x = torch.full((SAMPLES, 3), START)
    y, won = torch.zeros(SAMPLES, dtype=torch.int64), torch.full_like(x, WON)
    quarry = Quarry(x, y, Lp("linf", 1.0), keyed(0, torch.arange(SAMPLES)))
    found = drawn_in(misread, quarry, Nearest(won, distance(won, x, "linf")), HALVINGS)
    share = found.distance / (WON - START)
    assert bool(misread(found.point).argmax(1).all())
    assert torch.allclose(found.distance, distance(found.point, x, "linf"))
    behind = share - BORDERS
    assert bool((behind >= -1e-6).all() & (behind <= 2.0**-HALVINGS + 1e-6).all())


def test_what_never_won_stays_at_home() -> None:
    """Without a point that won there is no way to halve; one that is within epsilon may rest."""
    x = torch.full((SAMPLES, 3), START)
    quarry = Quarry(
        x, torch.zeros(SAMPLES, dtype=torch.int64), Lp("linf", 0.85),
        keyed(0, torch.arange(SAMPLES)),
    )  # fmt: skip
    nobody = Nearest(x, torch.full((SAMPLES,), torch.inf, dtype=torch.float64))
    assert drawn_in(misread, quarry, nobody) is nobody
    won = torch.full_like(x, WON)
    near = Nearest(won, distance(won, x, "linf"))
    assert drawn_in(misread, quarry, near, stop_inside=True) is near
