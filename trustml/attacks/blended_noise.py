"""Blended noise: as little noise as is misread, along many random ways."""

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
# A way is halved so often once it is known to be better; what counts as better.
_HALVINGS, _BETTER = 8, 0.97


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


def blended(
    oracle: Oracle, x: Tensor, threat: Threat, random: Random, noise: NoiseName, spare: int
) -> tuple[Tensor, Tensor]:
    """Return the nearest points (B, *S) and whether they are misread (B,), `spare` queries left."""
    rows = torch.arange(len(x), device=x.device)
    best, found = x.clone(), oracle(x, rows)
    nearest = torch.where(found, 0.0, torch.inf).double()
    closed, turn = (threat.budget(x) == 0).flatten(), 0
    while True:
        # As many queries as one more way may take.
        able = (oracle.left >= spare + 1 + _HALVINGS) & (nearest > 0) & ~closed
        rows = able.nonzero()[:, 0]
        if not len(rows):
            return best, found
        here, part = x[rows], random.at(rows)
        draw = part.uniform(tuple(x.shape[1:]), "noise", turn)
        draw = draw.round() if noise == "salt_and_pepper" else draw
        far = threat.low + draw * (threat.high - threat.low)
        far = far.to(x.dtype).clamp(threat.low, threat.high)
        rank = part.uniform(tuple(x.shape[1:]), "rank", turn)
        reach = torch.ones_like(nearest[rows])
        full = distance(far, here, threat.norm)
        share = (_BETTER * nearest[rows] / full).clamp(max=1.0)
        tried = _blend(here, far, rank, share, threat.norm)
        won = oracle(tried, rows)
        rows, here, far, rank = rows[won], here[won], far[won], rank[won]
        best[rows], found[rows], reach = tried[won], True, share[won]
        near = torch.zeros_like(reach)
        for _ in range(_HALVINGS if len(rows) else 0):
            middle = (near + reach) / 2
            tried = _blend(here, far, rank, middle, threat.norm)
            won = oracle(tried, rows)
            best[rows[won]] = tried[won]
            reach, near = torch.where(won, middle, reach), torch.where(won, near, middle)
        nearest[rows] = distance(best[rows], here, threat.norm)
        turn += 1


def _blend(x: Tensor, far: Tensor, rank: Tensor, share: Tensor, norm: Norm) -> Tensor:
    """Return the points (B, *S) at these shares (B,) of the ways."""
    part = like(share, x)
    if norm == "l0":
        return torch.where(rank < part, far, x)
    point = (x + part * (far - x)).to(x.dtype)
    # Never beyond the noise, whatever the rounding: so never outside the box.
    return torch.clamp(point, torch.minimum(x, far), torch.maximum(x, far))
