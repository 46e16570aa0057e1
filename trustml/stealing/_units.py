"""A network of one hidden ReLU layer as it is put together: an affine function and its units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.contracts import Domain
from trustml.stealing._bends import Bends
from trustml.stealing._normals import MARGIN, Normals
from trustml.stealing._relu_copy import ReluCopy


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """heights(x) = bias + around x + Σ_i outer_i · relu(inner_i · [x, 1]).

    inner (h, D+1), outer (H, h), bias (H,), around (H, D). `doubt` (h,) is the expected
    relative error of each normal.
    """

    inner: Tensor
    outer: Tensor
    bias: Tensor
    around: Tensor
    doubt: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return heights (B, H) at x (B, D)."""
        return self.before(x).relu() @ self.outer.T + self.bias + x @ self.around.T

    def before(self, x: Tensor) -> Tensor:
        """Return what the units see (B, h), before the ReLU."""
        return x @ self.inner[:, :-1].T + self.inner[:, -1]

    def error(self, x: Tensor) -> Tensor:
        """Return how far off the heights at x (B, D) may be by the doubt (B,)."""
        size = (self.outer.abs().amax(dim=0) * self.doubt).norm()
        return size * (x.norm(dim=1) + 1)

    def and_(self, other: "Units") -> "Units":
        """Return both added up."""
        return Units(
            torch.cat([self.inner, other.inner]),
            torch.cat([self.outer, other.outer], dim=1),
            self.bias + other.bias,
            self.around + other.around,
            torch.cat([self.doubt, other.doubt]),
        )

    def copy(self, domain: Domain, mixing: Tensor, pure: bool) -> ReluCopy:
        """Return the classifier; `pure` leaves out the way around, which is then nothing."""
        around = None if pure else mixing @ self.around
        return ReluCopy(domain, self.inner, mixing @ self.outer, mixing @ self.bias, around)


def put_together(bends: Bends, normals: Normals, origin: Tensor, direction: Tensor) -> Units:
    """Return the units that a line from `origin` has met, and the affine function beside them.

    A unit that is on left of its bend is turned round, as is what it leaves in the Jacobian there.
    """
    n, outer = normals.normals, bends.jumps.T
    bias = -(n @ origin) - bends.places
    inner = torch.cat([n, bias[:, None]], dim=1)
    first = bends.pieces[0]
    around = normals.jacobian
    if normals.flipped is not None:
        inner = torch.where(normals.flipped[:, None], -inner, inner)
        around = torch.zeros_like(around)
    lengths = inner[:, :-1].norm(dim=1).clamp_min(1e-300)
    units = Units(
        inner / lengths[:, None], outer * lengths, torch.zeros_like(first.value), around,
        normals.doubt,
    )  # fmt: skip
    # The bias from where the line is known best: the piece with the most exact value.
    best = min(bends.pieces, key=lambda piece: piece.value_doubt)
    point = origin + best.t * direction
    bias = best.value - units(point[None])[0]
    return Units(units.inner, units.outer, bias, around, normals.doubt)


def without_way_around(units: Units) -> tuple[Units, float] | None:
    """Return the same heights with units turned round so that no affine rest is left, if they are.

    The rest of a network without a way around is −Σ z_i outer_i n_iᵀ over the units that are
    written the wrong way round, z_i = 1; the margin is how far the least certain z is from 0 or 1.
    """
    n, outer = units.inner[:, :-1], units.outer
    system = (outer.T @ outer) * (n @ n.T)
    wanted = -((outer.T @ units.around) * n).sum(dim=1)
    z = torch.linalg.lstsq(system, wanted[:, None], driver="gelsd").solution[:, 0]
    turned = z.round().clamp(0, 1)
    rest = units.around + (outer * turned) @ n
    margin = float((z - turned).abs().max()) if len(z) else 0.0
    if margin > MARGIN or float(rest.norm()) > MARGIN * float(units.around.norm()):
        return None
    inner = torch.where(turned[:, None] > 0, -units.inner, units.inner)
    bias = units.bias + outer @ (turned * units.inner[:, -1])
    return Units(inner, outer, bias, torch.zeros_like(rest), units.doubt), margin
