"""Contrast reduction: as little of the way towards grey, a blur or the negative as is misread."""

import math
from typing import Literal

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle
from trustml.attacks._judge import check_counts
from trustml.attacks._windows import plane_of
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.geometry import like
from trustml.registry import attack

Towards = Literal["grey", "blurred", "inverted"]
# The way between the first point that was misread and the one before is halved so often.
_HALVINGS = 10


@attack(
    source="Contrast and blur: Rauber et al. 2017, arXiv:1707.04131; negatives: Hosseini et al. "
    "2017, arXiv:1703.06857",
    needs=Access.LABELS,
    norms=("linf", "l2", "l1"),
    minimum_norm=True,
)
def contrast_reduction(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 100,
    towards: Towards = "grey",
) -> Tensor:
    """Return the first misread points (B, *S) on a fixed way; the input itself where none is.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: not used.
        queries: forward passes a sample at most: evenly spaced points of the way up to the first
            that is misread, then halvings.
        towards: where the way leads: straight to the middle of the box; straight on to the
            negative, which lies behind it; or into a Gaussian blur that grows up to the longer side
            of the image (inputs that are no image are blurred along their entries).

    Raises:
        BadOption: no queries.
    """
    check_counts("contrast_reduction", queries=queries)
    halvings = min(_HALVINGS, (queries - 1) // 2)
    looks = queries - 1 - halvings
    oracle, best = Oracle(model, y, threat, queries), x.clone()
    near = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    far, left = torch.full_like(near, torch.inf), torch.full_like(y, halvings)
    with frozen(model), torch.no_grad():
        closed = oracle(x, torch.arange(len(x), device=x.device))
        closed = closed | (threat.budget(x) == 0).flatten()
        for look in range(1, queries):
            ahead = far.isinf() & (look <= looks)
            rows = (~closed & (ahead | far.isfinite() & (left > 0))).nonzero()[:, 0]
            if not len(rows):
                break
            first, last = near[rows], far[rows]
            share = torch.where(ahead[rows], look / max(looks, 1), (first + last) / 2)
            tried = _along(x[rows], share, threat, towards)
            won = oracle(tried, rows)
            best[rows[won]], left[rows] = tried[won], left[rows] - last.isfinite().to(left)
            near[rows], far[rows] = torch.where(won, first, share), torch.where(won, share, last)
    return threat.project(best, x)


def _along(x: Tensor, share: Tensor, threat: Threat, towards: Towards) -> Tensor:
    """Return the points (B, *S) at these shares (B,) of the way."""
    if towards == "blurred":
        point = _blurred(x.double(), share).to(x.dtype)
    else:
        both = threat.low + threat.high
        point = x + like(share.to(x.dtype), x) * ((both / 2 if towards == "grey" else both - x) - x)
    return point.clamp(threat.low, threat.high)


def _blurred(x: Tensor, share: Tensor) -> Tensor:
    """Return x (B, *S) after heat has flowed in it: a Gaussian blur of σ = share · longer side.

    Nothing flows out at the edges, so each row's and column's brightness stays what it was.
    """
    plane = plane_of(x.shape[1:])
    sigma = share * max(plane.rows, plane.columns)
    image = x.view(len(x), plane.channels, plane.rows, plane.columns)
    image = _heat(sigma, plane.rows)[:, None] @ image
    return (image @ _heat(sigma, plane.columns)[:, None]).view_as(x)


def _heat(sigma: Tensor, count: int) -> Tensor:
    """Return matrices (B, N, N) that let heat flow along a line of N for a time of σ²/2.

    Cosines are what only fades: e to the -2 σ² sin²(πk / 2N) of the k-th is left.
    """
    number = torch.arange(count, dtype=torch.float64, device=sigma.device)
    waves = torch.cos((2 * number + 1) * number[:, None] * (math.pi / (2 * count)))
    waves = waves / waves.square().sum(1, keepdim=True).sqrt()
    fading = (
        -2 * sigma.square()[:, None] * (number * (math.pi / (2 * count))).sin().square()
    ).exp()
    return waves.T @ (fading[:, :, None] * waves)
