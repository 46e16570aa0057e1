"""A network of one hidden ReLU layer as it is put together: an affine function and its units."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trustml.contracts import Domain
from trustml.stealing._bends import Bends
from trustml.stealing._normals import Normals
from trustml.stealing._relu_copy import ReluCopy


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """heights(x) = bias + around x + Σ_i outer_i · relu(inner_i · [x, 1]).

    inner (h, D+1), outer (H, h), bias (H,), around (H, D). `doubt` is the expected relative error
    of the normals.
    """

    inner: Tensor
    outer: Tensor
    bias: Tensor
    around: Tensor
    doubt: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return heights (B, H) at x (B, D)."""
        return self.before(x).relu() @ self.outer.T + self.bias + x @ self.around.T

    def before(self, x: Tensor) -> Tensor:
        """Return what the units see (B, h), before the ReLU."""
        return x @ self.inner[:, :-1].T + self.inner[:, -1]

    def error(self, x: Tensor) -> Tensor:
        """Return how far off the heights at x (B, D) may be by the doubt (B,)."""
        length = self.inner[:, :-1].norm(dim=1) * self.outer.abs().amax(dim=0)
        away = (x.norm(dim=1) + 1) * float(length.square().sum().sqrt())
        return self.doubt * away

    def and_(self, other: "Units") -> "Units":
        """Return both added up."""
        return Units(
            torch.cat([self.inner, other.inner]),
            torch.cat([self.outer, other.outer], dim=1),
            self.bias + other.bias,
            self.around + other.around,
            max(self.doubt, other.doubt),
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
