"""RayS: a search over the corners of the cube for the direction in which the border is nearest."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trustml.access import frozen
from trustml.attacks._decision import Oracle
from trustml.attacks._flights import take
from trustml.contracts import Access, Classifier, Random, Threat
from trustml.errors import BadOption
from trustml.geometry import like
from trustml.registry import attack

# Who is done leaves after every so many queries.
_EVERY = 8


@dataclass(frozen=True, slots=True, eq=False)
class Ray:
    """A direction of signs (B, D) for each sample, and where the search along and around it stands.

    Along the ray the input is misread at `far` (B,) and read rightly at `near`; `stride` is how far
    the next look is from `far`. Once the two are close, the block of entries number `block` of
    `level` has its signs turned. Until `found`, no direction was misread even at the box's edge.
    """

    rows: Tensor
    x: Tensor
    sign: Tensor
    far: Tensor
    near: Tensor
    stride: Tensor
    level: Tensor
    block: Tensor
    found: Tensor


@attack(
    source="Chen & Gu 2020, arXiv:2006.12792",
    needs=Access.LABELS,
    norms=("linf",),
    minimum_norm=True,
)
def rays(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    /,
    *,
    random: Random,
    queries: int = 5000,
    tolerance: float = 1e-3,
    stop_inside: bool = False,
) -> Tensor:
    """Return the misread points (B, *S) nearest to x along the best directions of signs found.

    Signs are turned in halves, quarters and so on down to single entries, and then again.

    Args:
        model: gives labels.
        x: inputs (B, *S) in the box.
        y: true labels, or the wanted ones of a targeted threat.
        threat: the ball, the box and the goal.
        random: not used.
        queries: forward passes a sample at most.
        tolerance: how exactly the border is found, as a share of the box's width.
        stop_inside: go no further with a sample whose nearest point is within epsilon.

    Raises:
        BadOption: no queries, or a tolerance that is not in (0, 1).
    """
    if queries < 1 or not 0 < tolerance < 1:
        raise BadOption(
            f"rays: queries={queries} must be 1 or more and tolerance={tolerance} in (0, 1)"
        )
    oracle, result = Oracle(model, y, threat, queries), x.clone()
    exact = tolerance * (threat.high - threat.low)
    with frozen(model), torch.no_grad():
        rows = torch.arange(len(x), device=x.device)
        ray = _first(x, rows, threat, exact)
        closed = (threat.budget(x) == 0).flatten()
        ray = take(ray, (~(oracle(x, rows) | closed)).nonzero()[:, 0])
        for query in range(1, queries):
            if stop_inside and query % _EVERY == 0:
                ray = _going_on(ray, threat, result)
            if not len(ray.rows):
                break
            ray = _looked(oracle, ray, threat, exact)
        _going_on(ray, threat, result)
    return threat.project(result, x)


def _first(x: Tensor, rows: Tensor, threat: Threat, exact: float) -> Ray:
    """Return rays towards the walls that are farther away."""
    width = torch.full_like(x.flatten(1)[:, 0], threat.high - threat.low)
    zero = torch.zeros_like(rows)
    sign = torch.where(x <= (threat.low + threat.high) / 2, 1.0, -1.0).to(x.dtype).flatten(1)
    # near = far: the search along the ray is over, so the first look is at a turned block.
    return Ray(rows, x, sign, width, width, exact * width, zero - 1, zero, zero > 0)


def _looked(oracle: Oracle, ray: Ray, threat: Threat, exact: float) -> Ray:
    """Return the rays after one query each: along the ray, or with another block turned."""
    along = ray.far - ray.near > exact
    turned = _turned(ray)
    sign = torch.where(along[:, None], ray.sign, turned)
    look = torch.maximum(ray.far - ray.stride, (ray.near + ray.far) / 2)
    size = torch.where(along, look, ray.far)
    won = oracle(_point(ray.x, sign, size, threat), ray.rows)
    better = won & ~along
    ray = replace(
        ray,
        sign=torch.where(better[:, None], turned, ray.sign),
        far=torch.where(won & along, look, ray.far),
        # A direction that was misread begins to be searched from x on.
        near=torch.where(better, 0.0, torch.where(along & ~won, look, ray.near)),
        stride=torch.where(along, torch.where(won, 2 * ray.stride, ray.stride), exact),
        found=ray.found | won,
    )
    return _next_block(ray, ~along)


def _turned(ray: Ray) -> Tensor:
    """Return the signs (B, D) with those of the next block turned; level −1 turns none."""
    entry = torch.arange(ray.sign.shape[1], device=ray.sign.device)
    size = _block_size(ray)
    start = (ray.block * size)[:, None]
    inside = (entry >= start) & (entry < start + size[:, None]) & (ray.level >= 0)[:, None]
    return torch.where(inside, -ray.sign, ray.sign)


def _next_block(ray: Ray, on: Tensor) -> Ray:
    """Return the rays at the next block where `on` (B,); after the last one, at those half as long.

    After single entries it begins again with all at once.
    """
    size, entries = _block_size(ray), ray.sign.shape[1]
    last = ((ray.block + 1) * size >= entries) | (ray.level < 0)
    level = torch.where(last, torch.where(size <= 1, 0, ray.level + 1), ray.level)
    block = torch.where(last, 0, ray.block + 1)
    return replace(
        ray, level=torch.where(on, level, ray.level), block=torch.where(on, block, ray.block)
    )


def _block_size(ray: Ray) -> Tensor:
    """Return the entries of a block (B,), rounded up."""
    blocks = 1 << ray.level.clamp_min(0)
    return (ray.sign.shape[1] + blocks - 1) // blocks


def _point(x: Tensor, sign: Tensor, size: Tensor, threat: Threat) -> Tensor:
    return (x + sign.view_as(x) * like(size, x)).clamp(threat.low, threat.high)


def _going_on(ray: Ray, threat: Threat, result: Tensor) -> Ray:
    """Return the rays that are not inside the ball; note each sample's point in `result`."""
    point = _point(ray.x, ray.sign, ray.far, threat)
    result[ray.rows] = torch.where(like(ray.found, point), point, ray.x)
    won = ray.found & threat.at(ray.rows).contains(point, ray.x)
    return take(ray, (~won).nonzero()[:, 0])
