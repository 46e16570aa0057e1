"""The softmax regression that gives stated classes their stated probabilities: least squares."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

# Half of float64's digits: enough to keep directions that nothing is known of where they are.
RIDGE = 1e-13
# A search that gains less than this share of the loss in a step is over: at once, or for good.
STALL, STUCK = 1e-4, 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Tops:
    """Points (N, D+1) with a last 1, the answered classes (N,), the logs (N,) of their shares."""

    points: Tensor
    classes: Tensor
    logs: Tensor

    def joined(self, other: "Tops") -> "Tops":
        """Return both."""
        return Tops(
            torch.cat([self.points, other.points]),
            torch.cat([self.classes, other.classes]),
            torch.cat([self.logs, other.logs]),
        )


def slopes(points: Tensor, classes: Tensor, inner: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p of the classes (N,), and its derivatives (N, P) by the P = (K-1)(D+1) unknowns.

    ∂ log p_k / ∂ f = e_k − p, and f = frame @ inner @ point.
    """
    logs = (points @ (frame @ inner).T).log_softmax(1)
    lead = (one_hot(classes, len(frame)) - logs.exp()) @ frame
    return logs.gather(1, classes[:, None])[:, 0], (lead[:, :, None] * points[:, None]).flatten(1)


def begun(known: Tops, frame: Tensor, l2: float) -> Tensor:
    """Return unknowns (K-1, D+1) to start from: what is left of each probability shared evenly.

    Cross-entropy to such answers is convex, and labels tell the classes apart, which at zero are
    all alike: least squares from there finds the others' places, from zero it mixes them up.
    """
    hot, shares = one_hot(known.classes, len(frame)), known.logs.exp()[:, None]
    target = hot * shares + (1 - hot) * (1 - shares) / (len(frame) - 1)
    inner = torch.zeros(len(frame) - 1, known.points.shape[1], dtype=torch.float64)
    inner.requires_grad_(True)
    solver = torch.optim.LBFGS([inner], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        miss = -(target * (known.points @ (frame @ inner).T).log_softmax(1)).sum(1).mean()
        value = miss + l2 * inner.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    return inner.detach()


def fitted(known: Tops, inner: Tensor, frame: Tensor, steps: int, stall: float = STALL) -> Tensor:
    """Return unknowns (K-1, D+1) of least squared error of log p, from `inner` on.

    Levenberg-Marquardt: a step that does not help is shortened, one that does is lengthened.
    """
    damping = 1e-3
    logs, rows = slopes(known.points, known.classes, inner, frame)
    miss = logs - known.logs
    loss = miss.square().sum() + RIDGE * inner.square().sum()
    for _ in range(steps):
        square, fall = rows.T @ rows, rows.T @ miss + RIDGE * inner.flatten()
        better = False
        for _ in range(12):
            hold = damping * square.diagonal() + RIDGE + 1e-14 * square.trace() / len(square)
            step = torch.linalg.solve(square + hold.diag(), -fall).view_as(inner)
            logs, new_rows = slopes(known.points, known.classes, inner + step, frame)
            new_miss = logs - known.logs
            new = new_miss.square().sum() + RIDGE * (inner + step).square().sum()
            better = bool(new < loss)
            if better:
                break
            damping *= 5
        if not better:
            break
        gain = float((loss - new) / loss)
        inner, rows, miss, loss = inner + step, new_rows, new_miss, new
        damping = max(damping / 10, 1e-14)
        if gain < stall or float(miss.abs().max()) < 1e-13:
            break
    return inner


def polished(known: Tops, inner: Tensor, frame: Tensor) -> tuple[Tensor, float, float]:
    """Return unknowns after undamped steps while they help, the largest miss, and the error's gain.

    The gain is the largest factor from an error of the logs to one of the unknowns, 1 / σ_min.
    """
    logs, rows = slopes(known.points, known.classes, inner, frame)
    miss = float((logs - known.logs).abs().max())
    for _ in range(5):
        # Not through the normal equations, which would lose half of the digits.
        step = torch.linalg.lstsq(rows, (known.logs - logs)[:, None]).solution.view_as(inner)
        new_logs, new_rows = slopes(known.points, known.classes, inner + step, frame)
        new_miss = float((new_logs - known.logs).abs().max())
        if not new_miss < miss:
            break
        inner, logs, rows, miss = inner + step, new_logs, new_rows, new_miss
    least = float(torch.linalg.svdvals(rows)[-1])
    return inner, miss, 1 / max(least, 1e-300)
