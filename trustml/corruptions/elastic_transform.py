"""Elastic transform: the picture stretched and sheared in places."""

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import places, sampled, smoothed
from trustml.registry import corruption

# How far places move, how smooth the field is, how far three corners move: in sides.
ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
           (0.1, 0.03, 0.03))  # fmt: skip


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def elastic_transform(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x sheared a little as a whole, then each place moved by a smooth random field.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    side = min(x.shape[2:])
    far, smooth, shear = (side * share for share in ELASTIC[severity - 1])
    x = _sheared(x, shear, random)
    if not far:
        return x
    lot = 2 * random.uniform((2, *x.shape[2:]), "elastic").to(x) - 1
    field = far * smoothed(lot, smooth, max(1, int(3 * smooth + 0.5)))
    down, across = places(x)
    return sampled(x, down + field[:, 0], across + field[:, 1], "reflection")


def _sheared(x: Tensor, far: float, random: Random) -> Tensor:
    """Return x by the affine map that moves three corners of its middle by up to `far` pixels."""
    height, width = x.shape[2:]
    third, middle = min(height, width) // 3, (height // 2, width // 2)
    corners = [
        [middle[1] + third, middle[0] + third, 1],
        [middle[1] + third, middle[0] - third, 1],
        [middle[1] - third, middle[0] - third, 1],
    ]
    known = torch.tensor(corners, dtype=torch.float64, device=x.device).expand(len(x), 3, 3)
    lot = random.uniform((3, 2), "shear").to(known)
    moved = known[:, :, :2] + far * (2 * lot - 1)
    moved = torch.cat([moved, torch.ones_like(moved[:, :, :1])], 2)
    # Where each pixel comes from: the map back.
    back = torch.linalg.solve(moved, known[:, :, :2]).to(x)
    down, across = (place[..., None] for place in places(x))
    spot = torch.cat([across, down, torch.ones_like(down)], 3).expand(len(x), -1, -1, -1)
    source = torch.einsum("bhwi,bij->bhwj", spot, back)
    return sampled(x, source[..., 1], source[..., 0], "reflection")
