"""Points on the borders between two answered classes, found by bisection, and what they tell."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trustml.asking import ask, asked
from trustml.contracts import Access, Victim
from trustml.stealing._seeds import Seeds


@dataclass(frozen=True, slots=True, eq=False)
class Borders:
    """Points (N, D) where the logits of classes `one` and `two` (N,) are equal, up to `width`.

    `width` (N, D) is the last bracket: a point of `two` less one of `one`.
    """

    points: Tensor
    one: Tensor
    two: Tensor
    width: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def joined(self, other: "Borders") -> "Borders":
        """Return both."""
        return Borders(
            *(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self))
        )


def bisected(victim: Victim, start: Seeds, end: Seeds, bits: int) -> Borders:
    """Return a border point on each segment from start to end, halved `bits` times.

    The label at the start's side is kept; what lies on the other side may be a third class.
    """
    shown = victim.at(Access.LABELS)
    low = torch.zeros(len(start.points), 1, dtype=torch.float64)
    high = torch.ones_like(low)
    near, far, two = start.points, end.points, end.labels
    for _ in range(bits):
        middle = (low + high) / 2
        x = asked(start.points + middle * (end.points - start.points), victim)
        # Where inputs have levels, neighbours have nothing between them: there is nothing to ask.
        new = (x != near).any(1) & (x != far).any(1)
        same = (x == near).all(1)
        label = torch.where(same, start.labels, two)
        if new.any():
            label[new] = ask(shown, x[new]).argmax(1)
        stays = (label == start.labels)[:, None]
        low, high = torch.where(stays, middle, low), torch.where(stays, high, middle)
        near, far = torch.where(stays, x, near), torch.where(stays, far, x)
        two = torch.where(stays[:, 0], two, label)
    return Borders((near + far) / 2, start.labels, two, far - near)


def equations(borders: Borders, frame: Tensor) -> Tensor:
    """Return rows (N, (K-1)(D+1)): the border's logit gap, 0, as a linear form of the parameters.

    Args:
        borders: points and pairs of classes.
        frame: (K, K-1) orthonormal columns, each of sum 0: the parameters are frame @ theirs.
    """
    extended = torch.cat([borders.points, torch.ones(len(borders), 1, dtype=torch.float64)], 1)
    pair = frame[borders.one] - frame[borders.two]
    return (pair[:, :, None] * extended[:, None, :]).flatten(1)


def shift_free(classes: int) -> Tensor:
    """Return (K, K-1) orthonormal columns that sum to 0 over the classes."""
    columns = torch.eye(classes, dtype=torch.float64)
    columns[:, 0] = 1.0
    return torch.linalg.qr(columns)[0][:, 1:]


def null_vector(rows: Tensor) -> tuple[Tensor, float, float]:
    """Return the unit vector that the rows (N, P) map closest to 0, and the two least lengths.

    The lengths are the least singular values, the larger first: inverse iteration with two vectors
    on the triangle of a QR decomposition, at a tenth of what all singular vectors cost.
    """
    triangle = torch.linalg.qr(rows, mode="r")[1]
    if len(triangle) < triangle.shape[1]:
        lacking = triangle.new_zeros(triangle.shape[1] - len(triangle), triangle.shape[1])
        triangle = torch.cat([triangle, lacking])
    diagonal = triangle.diagonal()
    least = torch.finfo(torch.float64).eps * diagonal.abs().max()
    safe = torch.where(diagonal.abs() < least, least, diagonal)
    solver = triangle - diagonal.diag() + safe.diag()
    pair = torch.randn(
        len(triangle), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    for _ in range(30):
        pair = torch.linalg.solve_triangular(solver.T, pair, upper=False)
        pair = torch.linalg.solve_triangular(solver, pair / pair.norm(), upper=True)
        if not bool(torch.isfinite(pair).all()):
            # Rows that leave many directions open: their triangle cannot be solved.
            pair = torch.linalg.svd(triangle)[2][-2:].T
            break
        pair = torch.linalg.qr(pair)[0]
    _, lengths, turn = torch.linalg.svd(triangle @ pair, full_matrices=False)
    return pair @ turn[1], float(lengths[0]), float(lengths[1])
