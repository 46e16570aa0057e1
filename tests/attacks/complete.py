"""Small ReLU networks solved completely: how far the nearest misread point is, and a proof of it.

Linf, L1 and L0 are mixed-integer programmes: each unit is on or off, by a big M from interval
bounds. L2 goes through all linear regions of the network and projects onto each.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trustml.contracts import Norm

SAMPLES, ENTRIES, CLASSES = 8, 4, 3
# What solvers may be off by, and what float32 may misread the border by.
CLOSE = 1e-4


@dataclass(frozen=True, eq=False)
class Net:
    """A ReLU network on four entries in [0, 1], three classes, and inputs labelled by itself."""

    module: nn.Sequential
    x: Tensor
    y: Tensor

    @cached_property
    def layers(self) -> list[tuple[Any, Any]]:
        """Weights and biases of the linear layers, in float64."""
        linear = [part for part in self.module if isinstance(part, nn.Linear)]
        return [
            (part.weight.detach().double().numpy(), part.bias.detach().double().numpy())
            for part in linear
        ]

    @cached_property
    def regions(self) -> list[tuple[Any, Any, Any, Any]]:
        """Each linear region (G, h, W, b): where G x + h ≥ 0 the logits are W x + b."""
        box = np.r_[np.eye(ENTRIES), -np.eye(ENTRIES)], np.r_[np.zeros(ENTRIES), np.ones(ENTRIES)]
        return list(_regions(self.layers, *box, np.eye(ENTRIES), np.zeros(ENTRIES)))

    def misread(self, points: Tensor) -> Tensor:
        """Return (B,) whether the float32 network errs at the points."""
        with torch.no_grad():
            return self.module(points).argmax(1) != self.y

    def distances(self, norm: Norm) -> Tensor:
        """Return the least distance (B,) at which another logit ties, float64."""
        return _all(self, norm)[0]

    def witnesses(self, norm: Norm) -> Tensor:
        """Return points (B, D) of that distance where another logit ties, float64."""
        return _all(self, norm)[1]


@cache
def net(*widths: int) -> Net:
    """Return a random network of so many units a layer, with many regions within the box."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(widths))
        parts: list[nn.Module] = []
        for fan, out in zip((ENTRIES, *widths), (*widths, CLASSES), strict=True):
            layer = nn.Linear(fan, out)
            with torch.no_grad():
                layer.weight.copy_(2 * torch.randn(out, fan) / fan**0.5)
                # Units bend within the box, not beside it.
                middle = 0.5 * layer.weight.sum(1) if fan == ENTRIES else 0.0
                layer.bias.copy_(0.3 * torch.randn(out) - middle)
            parts += [layer, nn.ReLU()]
        module = nn.Sequential(*parts[:-1]).eval()
        x = torch.rand(4 * SAMPLES, ENTRIES)
        x[::4, 0], x[1::4, 1] = 0.0, 1.0  # some stand at a wall
        with torch.no_grad():
            module[-1].bias -= module(x).median(0).values
            top = module(x).topk(2, dim=1)
        # Those that are read with the clearest lead: the others are lost by any attack.
        clear = (top.values[:, 0] - top.values[:, 1]).argsort(descending=True)[:SAMPLES]
    return Net(module, x[clear], top.indices[clear, 0])


NETS = {"one layer": (10,), "two layers": (6, 6)}


@cache
def _all(net: Net, norm: Norm) -> tuple[Tensor, Tensor]:
    found = [
        min((nearest(net, row, norm, rival) for rival in _rivals(net, row)), key=lambda f: f[0])
        for row in range(SAMPLES)
    ]
    far, points = zip(*found, strict=True)
    return torch.tensor(far, dtype=torch.float64), torch.as_tensor(np.stack(points))


def _rivals(net: Net, row: int) -> list[int]:
    return [rival for rival in range(CLASSES) if rival != int(net.y[row])]


def nearest(net: Net, row: int, norm: Norm, rival: int) -> tuple[float, Any]:
    """Return how far the nearest point is at which the rival's logit ties, and that point."""
    return _through_regions(net, row, rival) if norm == "l2" else _solved(net, row, norm, rival)


def lowest_margin(net: Net, row: int, epsilon: float, norm: Norm, rival: int) -> float:
    """Return the least lead of the label over the rival within an Linf or L1 ball and the box."""
    rows, size, places = _network(net)
    own, other = places + int(net.y[row]), places + rival
    cost = np.zeros(size)
    cost[own], cost[other] = 1, -1
    more, sizes = _ball(net.x[row].double().numpy(), size, norm)
    limit = np.zeros(size + sizes)
    limit[size:] = 1
    return _milp(net, rows, [*more, (limit, -np.inf, epsilon)], np.r_[cost, np.zeros(sizes)], 0)[0]


def _solved(net: Net, row: int, norm: Norm, rival: int) -> tuple[float, Any]:
    rows, size, places = _network(net)
    lead = np.zeros(size)
    lead[places + rival], lead[places + int(net.y[row])] = 1, -1
    more, sizes = _ball(net.x[row].double().numpy(), size, norm)
    cost = np.r_[np.zeros(size), np.ones(sizes)]
    wins = (np.r_[lead, np.zeros(sizes)], 0, np.inf)
    return _milp(net, rows, [*more, wins], cost, sizes if norm == "l0" else 0)


def _network(net: Net) -> tuple[list[tuple[Any, float, float]], int, int]:
    """Return the rows (coefficients, low, high) that tie all units, their length, where logits are.

    Variables: the input, then for each layer its outputs and, but for the logits, its switches.
    """
    widths = [len(bias) for _, bias in net.layers]
    size = ENTRIES + 2 * sum(widths[:-1]) + widths[-1]
    low, high = np.zeros(ENTRIES), np.ones(ENTRIES)
    rows, before, place = [], 0, ENTRIES
    for number, (weight, bias) in enumerate(net.layers):
        up, down = weight.clip(min=0), weight.clip(max=0)
        low, high = up @ low + down @ high + bias, up @ high + down @ low + bias
        for unit, (slope, shift) in enumerate(zip(weight, bias, strict=True)):
            # What comes out of a unit less what goes in, its bias left out.
            row = np.zeros(size)
            row[before : before + len(slope)], row[place + unit] = -slope, 1
            if number == len(net.layers) - 1:
                rows.append((row, shift, shift))
                continue
            switch, alone = place + len(bias) + unit, np.zeros(size)
            alone[place + unit], alone[switch] = 1, -max(high[unit], 0)
            off = row.copy()
            off[switch] = -min(low[unit], 0)
            rows += [(row, shift, np.inf), (alone, -np.inf, 0)]
            rows.append((off, -np.inf, shift - min(low[unit], 0)))
        low, high = low.clip(min=0), high.clip(min=0)
        before, place = place, place + 2 * len(bias)
    return rows, size, before


def _ball(x: Any, size: int, norm: Norm) -> tuple[list[tuple[Any, float, float]], int]:
    """Return rows that keep each move within its size, and how many sizes there are (Linf: one)."""
    count = 1 if norm == "linf" else ENTRIES
    rows = []
    for entry in range(ENTRIES):
        column = size + (0 if norm == "linf" else entry)
        for way, room in ((1, 1 - x[entry]), (-1, x[entry])):
            row = np.zeros(size + count)
            # L0: the size is 0 or 1, and an entry that may move may go as far as the wall.
            row[entry], row[column] = way, -(room if norm == "l0" else 1)
            rows.append((row, -np.inf, way * x[entry]))
    return rows, count


def _milp(
    net: Net, network: list[Any], more: list[Any], cost: Any, switches: int
) -> tuple[float, Any]:
    """Return the least cost and the input that has it; infinite where there is none."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    rows = [(np.r_[row, np.zeros(len(cost) - len(row))], low, high) for row, low, high in network]
    matrix, low, high = (np.array(part) for part in zip(*rows, *more, strict=True))
    whole, bottom, top = (np.full(len(cost), v) for v in (0.0, -np.inf, np.inf))
    bottom[:ENTRIES], top[:ENTRIES] = 0, 1
    place = ENTRIES
    for _, bias in net.layers[:-1]:
        bottom[place : place + 2 * len(bias)] = 0
        place += len(bias)
        whole[place : place + len(bias)], top[place : place + len(bias)] = 1, 1
        place += len(bias)
    if switches:
        whole[-switches:], top[-switches:] = 1, 1
    bottom[len(cost) - (len(cost) - place - CLASSES) :] = 0
    answer = milp(
        cost, integrality=whole, bounds=Bounds(bottom, top),
        constraints=LinearConstraint(matrix, low, high), options={"mip_rel_gap": 1e-9},
    )  # fmt: skip
    if answer.status == 2:
        return np.inf, np.full(ENTRIES, np.nan)
    assert answer.success, answer.message
    return float(answer.fun), answer.x[:ENTRIES]


def _regions(layers: Any, g: Any, h: Any, weight: Any, bias: Any) -> Iterator[Any]:
    """Yield the regions of the layers behind the affine map (weight, bias) where g x + h ≥ 0."""
    (first, shift), *rest = layers
    weight, bias = first @ weight, first @ bias + shift
    if not rest:
        yield g, h, weight, bias
        return
    for signs in product((1.0, 0.0), repeat=len(bias)):
        on = np.array(signs)
        way = (2 * on - 1)[:, None]
        inside = np.r_[g, way * weight], np.r_[h, way[:, 0] * bias]
        if _projected(np.full(ENTRIES, 0.5), *inside) is not None:
            yield from _regions(rest, *inside, on[:, None] * weight, on * bias)


def _through_regions(net: Net, row: int, rival: int) -> tuple[float, Any]:
    x, own = net.x[row].double().numpy(), int(net.y[row])
    best: tuple[float, Any] = (np.inf, np.full(ENTRIES, np.nan))
    for g, h, weight, bias in net.regions:
        lead, shift = weight[rival] - weight[own], bias[rival] - bias[own]
        found = _projected(x, np.r_[g, lead[None]], np.r_[h, shift])
        if found is not None and np.linalg.norm(found - x) < best[0]:
            best = float(np.linalg.norm(found - x)), found
    return best


def _projected(x: Any, g: Any, h: Any) -> Any:
    """Return the point nearest to x in L2 where g z + h ≥ 0, or None.

    Lawson & Hanson 1974, "Solving Least Squares Problems", §23.4: least distance by non-negative
    least squares.
    """
    from scipy.optimize import nnls

    steep = np.linalg.norm(g, axis=1)
    if bool((h[steep == 0] < 0).any()):
        return None
    # Rows of length 1; those without a slope (units that are off) are held everywhere.
    g, h = g[steep > 0] / steep[steep > 0][:, None], h[steep > 0] / steep[steep > 0]
    lacking = -(g @ x + h)
    stacked, aim = np.r_[g.T, lacking[None]], np.r_[np.zeros(len(x)), 1.0]
    rest = stacked @ nnls(stacked, aim)[0] - aim
    if np.linalg.norm(rest) < 1e-9:
        return None
    found = x - rest[:-1] / rest[-1]
    return found if bool((g @ found + h >= -1e-7).all()) else None
