"""The 8-bit grid: points whose entries are whole 255ths of the box, as picture files hold them.

Distances on it are those of the whole steps, so that rounding of float32 plays no part: two inputs
that are 8 steps apart in a picture file are 8/255 apart.
"""

from dataclasses import replace

import torch
from torch import Tensor

from trustml.contracts import Threat
from trustml.errors import BadInput
from trustml.threats import Lp

STEPS = 255
# How far off a step, in steps, an entry may be for want of digits; and a radius, as a share.
_NEAR, _SLACK = 1e-3, 1e-9


def snapped(candidate: Tensor, x: Tensor, threat: Threat, slope: Tensor | None = None) -> Tensor:
    """Return points (B, *S) of the grid near the candidates, in the ball around x.

    Each entry goes to the step below or above it: to the nearer one, or the one up the slope.
    Where the ball has no room for all that would go farther from x, those go that gain most.

    Args:
        candidate: (B, *S) in the ball.
        x: (B, *S) on the grid.
        threat: one of the norms.
        slope: (B, *S) of what is to rise; none rounds to the nearest.
    """
    home, there = (_steps(point, threat).flatten(1) for point in (x, candidate))
    move = there - home
    inner = move.trunc()
    left = (move - inner).abs()
    way = move.sign()
    gain = left - 0.5 if slope is None else way * slope.flatten(1).double()
    gain = gain.masked_fill(left == 0, -torch.inf)
    room = _radius(x, threat)
    if threat.norm == "linf":
        outer = (gain > 0) & ((inner + way).abs() <= room)
        inner = inner.sign() * inner.abs().minimum(room.floor())
    elif threat.norm == "l0":
        outer = gain > 0
    else:
        cost = 2 * inner.abs() + 1 if threat.norm == "l2" else torch.ones_like(inner)
        spent = inner.square() if threat.norm == "l2" else inner.abs()
        most = room.square() if threat.norm == "l2" else room
        outer = _affordable(gain, cost, most - spent.sum(1, keepdim=True))
    step = (home + torch.where(outer, inner + way, inner)).clamp(0, STEPS)
    side = threat.high - threat.low
    point = (threat.low + step / STEPS * side).to(x.dtype).view_as(x)
    return torch.where((step == home).view_as(x), x, point)


def reachable(threat: Lp) -> Lp:
    """Return the threat with the largest Linf ball whose edge lies on the grid; other norms' as is.

    A search in a wider ball would end at edges that are not allowed.
    """
    if threat.norm != "linf":
        return threat
    step = (threat.high - threat.low) / STEPS
    steps = torch.as_tensor(threat.epsilon, dtype=torch.float64) / step * (1 + _SLACK)
    edge = steps.floor() * step
    return replace(threat, epsilon=edge if isinstance(threat.epsilon, Tensor) else float(edge))


def check_radius(threat: Threat) -> None:
    """Check that the ball holds more of the grid than its centre.

    Raises:
        BadInput: it does not.
    """
    step = 1.0 if threat.norm == "l0" else (threat.high - threat.low) / STEPS
    if bool((torch.as_tensor(threat.epsilon) * (1 + _SLACK) < step).any()):
        raise BadInput(
            f"--grid 8-bit: --epsilon {threat.epsilon:.6g} in {threat.norm} is less than one step, "
            f"{step:.6g}, so that nothing may move"
        )


def within(candidate: Tensor, x: Tensor, threat: Threat) -> Tensor:
    """Return (B,) whether candidates lie on the grid, in the box, and in the ball around x."""
    home, there = (_steps(point, threat).flatten(1) for point in (x, candidate))
    whole = (there == there.round()) & (there >= 0) & (there <= STEPS)
    move = (there - home).abs()
    far = {
        "linf": lambda: move.amax(1),
        "l2": lambda: move.square().sum(1).sqrt(),
        "l1": lambda: move.sum(1),
        "l0": lambda: (move > 0).sum(1).double(),
    }[threat.norm]()
    return whole.all(1) & (far <= _radius(x, threat)[:, 0])


def check_on_grid(x: Tensor, threat: Threat, whose: str) -> None:
    """Check that inputs (B, *S) lie on the grid.

    Raises:
        BadInput: one does not.
    """
    step = _steps(x, threat).flatten(1)
    off = (step != step.round()).nonzero()
    if len(off):
        row, entry = (int(part) for part in off[0])
        value = float(x.flatten(1)[row, entry])
        raise BadInput(
            f"--grid 8-bit: input {row} of {whose} does not lie on it: an entry is {value:.6g}, "
            f"{float(step[row, entry]):.2f} of {STEPS} steps from {threat.low:g} to "
            f"{threat.high:g}. Leave --grid out, or give data that come from 8-bit pictures"
        )


def _steps(point: Tensor, threat: Threat) -> Tensor:
    """Return how many steps (float64) above the box's lower side; what is nearly whole is whole."""
    step = (point.double() - threat.low) / (threat.high - threat.low) * STEPS
    near = step.round()
    return torch.where((step - near).abs() < _NEAR, near, step)


def _radius(x: Tensor, threat: Threat) -> Tensor:
    """Return the ball's radius (B, 1) in steps; in L0 in entries."""
    radius = threat.budget(x).expand(len(x), *[1] * (x.dim() - 1)).reshape(-1, 1)
    unit = 1.0 if threat.norm == "l0" else STEPS / (threat.high - threat.low)
    return radius * unit * (1 + _SLACK)


def _affordable(gain: Tensor, cost: Tensor, left: Tensor) -> Tensor:
    """Return which entries (B, D) to take, the highest gain above 0 first, while costs last."""
    order = gain.argsort(dim=1, descending=True, stable=True)
    paid = cost.gather(1, order).cumsum(1) <= left
    taken = torch.zeros_like(paid).scatter(1, order, paid)
    return taken & (gain > 0)
