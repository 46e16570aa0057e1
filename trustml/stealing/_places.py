"""Where on a line to stand so that directional derivatives tell all normals: few places.

Place k lies on piece k, right of bends 0 … k − 1. Standing on pieces i < j, the difference of the
derivatives is Σ c_m (n_m·r) over the bends m between: K equations, so at most K bends may lie
between neighbouring places. Which places give the least error is a shortest path.
"""

import torch
from torch import Tensor

ROUNDS = 2
# Wider networks gain too little from one place less for the search to be worth its time.
WIDEST_SEARCH = 100


def spread(jumps: Tensor, variances: Tensor, enough: float, spare: int) -> Tensor:
    """Return the pieces (n,) to stand on when the signs are not known; first and last among them.

    Args:
        jumps: (h, K), in order.
        variances: of a derivative taken on each piece (h + 1,).
        enough: mean squared error of the normals at which no further place is worth its queries.
        spare: how many places more than the fewest there may be.
    """
    width, answers = jumps.shape
    costs = _costs(jumps, variances)
    least = -(-width // answers)
    best = torch.full((width + 1,), torch.inf, dtype=torch.float64)
    best[0] = 0.0
    came: list[Tensor] = []
    path = torch.zeros(1, dtype=torch.int64)
    for groups in range(1, min(width, least + spare) + 1):
        best, before = (best[:, None] + costs).min(dim=0)
        came.append(before)
        if groups < least or not bool(torch.isfinite(best[width])):
            continue
        path = _back(came, width)
        if float(best[width]) / width <= enough:
            break
    return path


def _costs(jumps: Tensor, variances: Tensor) -> Tensor:
    """Return (h + 1, h + 1): squared error of the normals between pieces i < j; infinite else."""
    width, answers = jumps.shape
    costs = torch.full((width + 1, width + 1), torch.inf, dtype=torch.float64)
    for size in range(1, min(answers, width) + 1):
        windows = jumps.unfold(0, size, 1)
        error = torch.linalg.pinv(windows).square().sum(dim=(1, 2))
        start = torch.arange(width + 1 - size)
        costs[start, start + size] = error * (variances[start] + variances[start + size])
    return costs


def _back(came: list[Tensor], end: int) -> Tensor:
    path = [end]
    for before in reversed(came):
        path.append(int(before[path[-1]]))
    return torch.tensor(path[::-1])


def spread_signed(rows: Tensor, start: Tensor, enough: float) -> Tensor | None:
    """Return h/K pieces, rounded up, to stand on when the signs are known; None if too ill posed.

    Args:
        rows: (h + 1, K, h), each piece's equations, over the standard deviation of its derivative.
        start: pieces that do without the signs.
        enough: mean squared error of the normals to reach.
    """
    pieces, answers, width = rows.shape
    count = -(-width // answers)
    if width > WIDEST_SEARCH or count >= len(start):
        return None
    chosen = _thin(rows, start, count)
    for _ in range(ROUNDS):
        for k in range(count):
            errors = torch.full((pieces,), torch.inf, dtype=torch.float64)
            others = torch.cat([chosen[:k], chosen[k + 1 :]])
            for piece in range(pieces):
                if piece not in others:
                    errors[piece] = _error(rows[torch.cat([others, torch.tensor([piece])])])
            chosen[k] = errors.argmin()
    return chosen.sort().values if _error(rows[chosen]) / width <= enough else None


def _thin(rows: Tensor, start: Tensor, count: int) -> Tensor:
    """Return `count` of the places of `start`, the least useful left out one after another."""
    while len(start) > count:
        every = [torch.cat([start[:k], start[k + 1 :]]) for k in range(len(start))]
        start = every[int(torch.tensor([_error(rows[some]) for some in every]).argmin())]
    return start


def _error(rows: Tensor) -> float:
    """Return the summed squared error of what the equations (n, K, h) determine."""
    values = torch.linalg.svdvals(rows.flatten(0, 1))
    if len(values) < rows.shape[2] or float(values[-1]) <= 1e-14 * float(values[0]):
        return float("inf")
    return float(values.pow(-2).sum())
