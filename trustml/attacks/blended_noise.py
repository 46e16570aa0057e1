"""Blended noise: as little noise as is misread, along many random ways."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle
from trustml.attacks._judge import check_counts
from trustml.contracts import Access, Classifier, Norm, Random, Threat
from trustml.geometry import distance, like
from trustml.registry import attack

NoiseName = Literal["uniform", "salt_and_pepper"]
# A way is halved so often once it is known to be better.
_HALVINGS = 8
# What counts as better; in L0 ways to the same noise differ more, and a bolder try pays.
_BETTER, _BOLDER = 0.97, 0.9


@attack(
    source="Blended uniform noise, and salt and pepper: Rauber et al. 2017, arXiv:1707.04131",
    needs=Access.LABELS,
    norms=("linf", "l2", "l1", "l0"),
    minimum_norm=True,
)
def blended_noise(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 1000,
    noise: NoiseName = "uniform",
) -> Tensor:
    """Return the nearest misread points (B, *S) on the ways from the inputs to images of noise.

    Each way is first asked about a little nearer than the best so far. In L0 the way leads over
    inputs of which more and more entries are the noise's.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: the samples' random numbers.
        queries: forward passes a sample at most.
        noise: any value of the box, or one of its two walls.

    Raises:
        BadOption: no queries.
    """
    check_counts("blended_noise", queries=queries)
    with frozen(model), torch.no_grad():
        point, _ = blended(Oracle(model, y, threat, queries), x, threat, random, noise, 0)
    return threat.project(point, x)


@dataclass(slots=True, eq=False)
class Ways:
    """Where each of B samples looks: images of noise, and the part of the way that is still open.

    `far` and `rank` (B, *S) say what the way leads over; `near` (B,) is the share of it up to which
    nothing is misread, `reach` that of the nearest misread point, `left` the halvings to come.
    """

    far: Tensor
    rank: Tensor
    near: Tensor
    reach: Tensor
    left: Tensor


def blended(
    oracle: Oracle, x: Tensor, threat: Threat, random: Random, noise: NoiseName, spare: int
) -> tuple[Tensor, Tensor]:
    """Return the nearest points (B, *S) and whether they are misread (B,), `spare` queries left.

    Each turn asks once about every sample, be it of a new way or of one that is being halved.
    """
    best, found = x.clone(), oracle(x, torch.arange(len(x), device=x.device))
    nearest = torch.where(found, 0.0, torch.inf).double()
    still, closed, turn = torch.zeros_like(nearest), (threat.budget(x) == 0).flatten(), 0
    ways = Ways(x.clone(), torch.zeros_like(x), still, still.clone(), torch.zeros_like(oracle.left))
    while True:
        halving = ways.left > 0
        # A way is begun only where its end could be paid for too.
        able = halving | (oracle.left >= spare + 1 + _HALVINGS)
        rows = (able & (nearest > 0) & ~closed).nonzero()[:, 0]
        if not len(rows):
            return best, found
        fresh = rows[~halving[rows]]
        if len(fresh):
            _set_out(ways, fresh, x[fresh], nearest[fresh], threat, random.at(fresh), noise, turn)
        share = torch.where(halving, (ways.near + ways.reach) / 2, ways.reach)[rows]
        tried = _blend(x[rows], ways.far[rows], ways.rank[rows], share, threat.norm)
        length = distance(tried, x[rows], threat.norm)
        won = oracle(tried, rows) & (halving[rows] | (length < nearest[rows]))
        best[rows[won]], found[rows[won]], nearest[rows[won]] = tried[won], True, length[won]
        ways.near[rows[~won]], ways.reach[rows[won]] = share[~won], share[won]
        left = torch.where(halving[rows], ways.left[rows] - 1, _HALVINGS)
        ways.left[rows] = left.masked_fill(~won & ~halving[rows], 0)
        turn += 1


def _set_out(
    ways: Ways, rows: Tensor, x: Tensor, nearest: Tensor, threat: Threat, random: Random,
    noise: NoiseName, turn: int,
) -> None:  # fmt: skip
    """Give the samples a new way, to be asked about a little nearer than the best so far."""
    far, rank = _drawn(x, threat, random, noise, turn)
    ways.far[rows], ways.rank[rows] = far, rank.to(x.dtype)
    better = _BOLDER if threat.norm == "l0" else _BETTER
    share = better * nearest / distance(far, x, threat.norm)
    ways.near[rows], ways.reach[rows] = 0.0, share.clamp(max=1.0)


def _drawn(
    x: Tensor, threat: Threat, random: Random, noise: NoiseName, turn: int
) -> tuple[Tensor, Tensor]:
    """Return images of noise, and the order (as uniform numbers) in which entries become theirs.

    Salt and pepper falls on all channels of a pixel alike.
    """
    shape = tuple(x.shape[1:])
    if noise == "uniform":
        draw, rank = (random.uniform(shape, name, turn) for name in ("noise", "rank"))
    else:
        # What is left of a uniform number below or above its middle is uniform again.
        one = random.uniform((1, *shape[1:]) if len(shape) == 3 else shape, "noise", turn)
        draw, rank = (one >= 0.5).to(one.dtype), (2 * one - 1).abs()
    far = (threat.low + draw * (threat.high - threat.low)).to(x.dtype)
    return far.clamp(threat.low, threat.high).expand_as(x), rank.expand_as(x)


def _blend(x: Tensor, far: Tensor, rank: Tensor, share: Tensor, norm: Norm) -> Tensor:
    """Return the points (B, *S) at these shares (B,) of the ways."""
    part = like(share, x)
    if norm == "l0":
        return torch.where(rank < part, far, x)
    point = (x + part * (far - x)).to(x.dtype)
    # Never beyond the noise, whatever the rounding: so never outside the box.
    return torch.clamp(point, torch.minimum(x, far), torch.maximum(x, far))
