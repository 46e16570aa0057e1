"""The normals of the hyperplanes that a line bends at, from directional derivatives beside it.

Unit i is written c_i · relu(n_i·(x − origin) − t_i), with n_i·v = 1 along the line's direction v,
beside the affine function that holds left of all bends. At a place p on the line the derivative
along r is A r + Σ_{t_i < p} c_i (n_i·r): K equations in the h numbers n_i·r and the K of A r. So
about h/K places, one query each, give one direction, and the places can be chosen well.
A network without a skip has A = −Σ z_i c_i n_iᵀ with z_i in {0, 1}, which tells each unit's sign by
linear least squares, and then A r is no longer unknown.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.stealing._bends import Bends
from trustml.stealing._places import spread, spread_signed

# Steps are this many times shorter than the estimated way to the nearest hyperplane: before and
# after the length of each normal is known from a few directions.
CAUTION = (300.0, 10.0)
# A sign is certain where least squares gives it closer than this to 0 or 1.
MARGIN = 0.1
# Directions that tell roughly how long the normals are.
FEW = 5
# How often steps are shortened.
SHORTER = 3
# Expected errors of normals of length one that need no further queries; true ones are a hundred
# times smaller, as roundings seldom all point one way.
ENOUGH = 3e-6


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """What can be asked around a line: x (B, D) → (B, K), and where the line runs.

    Args:
        noise: answers (B, K) → how far off each row may be (B,).
        room: place (D,), directions (m, D) → how far one may go each way (m,).
        spare: how many places more than the fewest one may stand on.
        caution: see CAUTION.
        enough: see ENOUGH.
    """

    ask: Callable[[Tensor], Tensor]
    noise: Callable[[Tensor], Tensor]
    room: Callable[[Tensor, Tensor], Tensor]
    origin: Tensor
    direction: Tensor
    low: float
    high: float
    scale: float
    spare: int = 2
    caution: tuple[float, float] = CAUTION
    enough: float = ENOUGH


@dataclass(frozen=True, slots=True, eq=False)
class Normals:
    """Normals n (h, D) with n·v = 1, the Jacobian A (K, D) left of all bends, the signs.

    `flipped` (h,) says which units are on left of their bend; None where the network has a skip.
    `margin` is how far from 0 and 1 the least certain sign came out; `doubt` (h,) is the expected
    error of an entry of each n, relative to its length.
    """

    normals: Tensor
    jacobian: Tensor
    flipped: Tensor | None
    margin: float
    doubt: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class _Stand:
    """Places on the line (n, D) with their answers, steps (n,), and what solves the equations."""

    points: Tensor
    values: Tensor
    steps: Tensor
    solve: Tensor
    doubt: Tensor


def find_normals(
    beside: Beside, bends: Bends, random: torch.Generator, flipped: Tensor | None = None
) -> Normals:
    """Return the normals at all bends; `flipped` says the signs if they are known.

    Raises:
        BudgetSpent: from the victim.
    """
    width, answers = bends.jumps.shape
    size = len(beside.direction)
    basis = _basis(beside.direction, random)
    along = torch.ones(width, 1, dtype=torch.float64)
    slopes = bends.pieces[0].slope[:, None]
    stand = _stand(beside, bends, flipped, along)
    margin, trials = 0.0, FEW
    if flipped is None:
        # More directions than this would have told; then there is a way around the hidden layer.
        margin, trials = float("inf"), 3 * (width // answers + 1)
    for j in range(1, min(trials, size)):
        found = _derive(beside, stand, bends, basis[:, j : j + 1])
        along = torch.cat([along, found[:width]], dim=1)
        if flipped is None:
            slopes = torch.cat([slopes, found[width:]], dim=1)
            signs, margin = _signs(bends.jumps, along, slopes)
            if signs is not None:
                flipped = signs
                break
    rest = basis[:, along.shape[1] :]
    if rest.shape[1]:
        stand = _stand(beside, bends, flipped, along, stand)
        found = _derive(beside, stand, bends, rest)
        along = torch.cat([along, found[:width]], dim=1)
        if flipped is None:
            slopes = torch.cat([slopes, found[width:]], dim=1)
    normals = along @ basis.T
    known = flipped if flipped is not None else torch.zeros(width, dtype=torch.bool)
    left = -(bends.jumps.T * known) @ normals
    jacobian = slopes @ basis.T if flipped is None else left
    doubt = stand.doubt[:width] / normals.norm(dim=1)
    return Normals(normals, jacobian, flipped, margin, doubt)


def _basis(direction: Tensor, random: torch.Generator) -> Tensor:
    """Return a random orthonormal basis (D, D) whose first column is the unit direction."""
    size = len(direction)
    other = torch.randn(size, size, generator=random, dtype=torch.float64)
    other[:, 0] = direction
    basis, _ = torch.linalg.qr(other)
    return basis * torch.sign(basis[:, 0] @ direction)


def _stand(
    beside: Beside,
    bends: Bends,
    flipped: Tensor | None,
    along: Tensor,
    before: _Stand | None = None,
) -> _Stand:
    """Choose places on the line, ask there, and prepare to solve for a direction."""
    lengths = along.square().mean(dim=1).sqrt()
    known = along.shape[1] > 1
    lengths = lengths if known else _guess(beside, bends)
    places, reach = _reaches(beside, bends, lengths)
    expected = torch.stack([piece.at(float(t)) for piece, t in _with(bends, places)])
    steps = reach / beside.caution[known]
    sigmas = 2 * beside.noise(expected) / steps
    rows = _equations(bends, flipped)
    # In normals of length one, errors of all units count alike.
    jumps = bends.jumps * lengths[:, None]
    chosen = spread(jumps, sigmas.square(), beside.enough**2, beside.spare)
    if flipped is not None:
        weighted = rows * lengths / sigmas[:, None, None]
        fewer = spread_signed(weighted, chosen, beside.enough**2)
        chosen = chosen if fewer is None else fewer
    points = beside.origin + places[chosen][:, None] * beside.direction
    values = _values(beside, points, before)
    weights = 1 / sigmas[chosen]
    inverse = torch.linalg.pinv((rows[chosen] * weights[:, None, None]).flatten(0, 1), rtol=1e-15)
    scale = weights.repeat_interleave(rows.shape[1])
    return _Stand(points, values, steps[chosen], inverse * scale, inverse.norm(dim=1))


def _values(beside: Beside, points: Tensor, before: _Stand | None) -> Tensor:
    """Return the answers (n, K) at the points; those known from before are not asked for again."""
    if before is None:
        return beside.ask(points)
    same = (points[:, None] == before.points).all(dim=2)
    known = same.any(dim=1)
    values = before.values[same.int().argmax(dim=1)]
    if not bool(known.all()):
        values[~known] = beside.ask(points[~known])
    return values


def _guess(beside: Beside, bends: Bends) -> Tensor:
    """Return rough lengths of the normals: those that the line runs along are met far away."""
    return 1 + (bends.places - bends.places.median()).abs() / beside.scale


def _with(bends: Bends, places: Tensor) -> list[tuple]:
    return list(zip(bends.pieces, places, strict=True))


def _reaches(beside: Beside, bends: Bends, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return a place on each piece (h + 1,), and how far it is from there to a hyperplane."""
    at = bends.places
    outer = beside.scale + at[[0, -1]].abs() if len(at) else torch.zeros(2)
    ends = torch.tensor([beside.low, beside.high], dtype=torch.float64)
    if not len(at):
        return ends.mean()[None], torch.tensor([beside.scale], dtype=torch.float64)
    first = at[0] - torch.minimum((at[0] - ends[0]) / 2, outer[0])
    last = at[-1] + torch.minimum((ends[1] - at[-1]) / 2, outer[1])
    places = torch.cat([first[None], (at[1:] + at[:-1]) / 2, last[None]])
    ways = (places[:, None] - at).abs() / lengths
    return places, ways.min(dim=1).values


def _equations(bends: Bends, flipped: Tensor | None) -> Tensor:
    """Return (h + 1, K, n): the equations of each piece in n_i·r, and in A r without signs."""
    width, answers = bends.jumps.shape
    passed = torch.arange(width) < torch.arange(width + 1)[:, None]
    share = passed.double() if flipped is None else passed.double() - flipped.double()
    rows = share[:, None, :] * bends.jumps.T
    if flipped is not None:
        return rows
    affine = torch.eye(answers, dtype=torch.float64).expand(width + 1, -1, -1)
    return torch.cat([rows, affine], dim=2)


def _derive(beside: Beside, stand: _Stand, bends: Bends, directions: Tensor) -> Tensor:
    """Return the unknowns (n, m) of the directions (D, m): one query a place and direction.

    A direction whose steps turn out to cross a hyperplane is asked about again in shorter ones.
    """
    found = _slopes(beside, stand, directions, stand.steps)
    ways = (stand.points - beside.origin) @ beside.direction
    gaps = (ways[:, None] - bends.places).abs()
    for _ in range(SHORTER):
        steps = found[: len(bends.places)].abs().T[:, None] * stand.steps[None, :, None]
        crossed = (steps / gaps).amax(dim=(1, 2)) >= 1 if len(bends.places) else steps.new_zeros(0)
        rows = crossed.nonzero()[:, 0]
        if not len(rows):
            break
        stand = replace(stand, steps=stand.steps / 30)
        found[:, rows] = _slopes(beside, stand, directions[:, rows], stand.steps)
    return found


def _slopes(beside: Beside, stand: _Stand, directions: Tensor, steps: Tensor) -> Tensor:
    ways = directions.T[None] * steps[:, None, None]
    for k, point in enumerate(stand.points):
        room = beside.room(point, directions.T)
        ways[k] *= (room / steps[k]).clamp_max(1.0)[:, None]
    asked = (stand.points[:, None] + ways).flatten(0, 1)
    change = beside.ask(asked).unflatten(0, ways.shape[:2]) - stand.values[:, None]
    slopes = change / ways.norm(dim=2, keepdim=True)
    return stand.solve @ slopes.permute(0, 2, 1).flatten(0, 1)


def _signs(jumps: Tensor, along: Tensor, slopes: Tensor) -> tuple[Tensor | None, float]:
    """Return which units are on at the left, and the rounding margin; None if not certain.

    A r = −Σ z_i c_i (n_i·r) for each direction r so far, the line's own included.
    """
    width, answers = jumps.shape
    system = -(jumps.T[None] * along.T[:, None, :]).flatten(0, 1)
    if len(system) < width + answers:
        return None, float("inf")
    wanted = slopes.T.flatten()
    z = torch.linalg.lstsq(system, wanted[:, None], driver="gelsd").solution[:, 0]
    signs = z.round().clamp(0, 1)
    margin = float((z - signs).abs().amax()) if width else 0.0
    off = float((system @ signs - wanted).norm() / (1e-300 + wanted.norm()))
    if margin > MARGIN or off > MARGIN:
        return None, margin
    return signs.bool(), margin
