"""Spatial: the image turned and shifted, by one member of a fixed grid; nothing else is allowed.

The grid of Engstrom et al. 2019: 31 angles from −30° to 30°, along each side 5 shifts of at most a
tenth of it, in whole pixels (3 of 28 or 32). Epsilon in [0, 1] scales angles and shifts alike.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from trustml.contracts import Random
from trustml.measures._images import Box, check_images, in_box, one_each

USUAL = 1.0
DEGREES, ANGLES, SHIFTS = 30.0, 15, 2  # steps to each side of none
# How far an entry may be from the image warped anew, in sides of the box: libraries and devices
# round differently.
TOLERANCE = 1e-6
Member = tuple[float, float, float]  # shares in [-1, 1] of angle, shift down, shift across


def check(x: Tensor) -> None:
    """Check that such inputs can be turned.

    Raises:
        NotApplicable: the inputs are no images.
    """
    check_images("spatial", x)


def distance(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the largest share (B,) that the candidate's angle or shift is of the whole range.

    Infinite where the candidate is no member of the grid that epsilon gives.
    """
    far = one_each(epsilon, x)
    found = torch.full_like(far, torch.inf)
    tolerance = TOLERANCE * (box[1] - box[0])
    for member in grid():
        rows = found.isinf().nonzero()[:, 0]
        if not len(rows):
            break
        moved = warped(x[rows], far[rows], member, box)
        apart = (moved.double() - candidate[rows].double()).abs().flatten(1).amax(1)
        reach = far[rows] * max(map(abs, member))
        found[rows] = torch.where(apart <= tolerance, reach, torch.inf)
    return found


def project(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the grid's member that is nearest to each candidate, in L2."""
    far, wish = one_each(epsilon, x), candidate.double()
    best, least = x, (wish - x.double()).square().flatten(1).sum(1)
    for member in grid():
        moved = warped(x, far, member, box)
        apart = (moved.double() - wish).square().flatten(1).sum(1)
        better = apart < least
        best = moved.where(better[:, None, None, None], best)
        least = torch.minimum(apart, least)
    return best


def drawn(x: Tensor, epsilon: Tensor, box: Box, random: Random, draw: int) -> Tensor:
    """Return a random member of each grid."""
    lot = random.integers(len(grid()), (), "member", draw).to(x.device)
    members = torch.tensor(grid(), dtype=torch.float64, device=x.device)[lot]
    return warped(x, one_each(epsilon, x), members, box)


@lru_cache
def grid() -> tuple[Member, ...]:
    """Return the members, the mildest first: as x is, then by their largest share."""
    return tuple(sorted(_members(), key=lambda m: (max(map(abs, m)), sum(map(abs, m)), m)))


def warped(x: Tensor, epsilon: Tensor, member: Member | Tensor, box: Box) -> Tensor:
    """Return x (B, C, H, W) turned and shifted, each by epsilon (B,) of the member's shares.

    Bilinear, computed in float64; what comes in from outside is as dark as the box allows. A member
    may be one a sample (B, 3).
    """
    shares = torch.as_tensor(member, dtype=torch.float64, device=x.device).expand(len(x), 3)
    still = ((shares == 0).all(1) | (epsilon == 0))[:, None, None, None]
    height, width = x.shape[2:]
    angle = epsilon * shares[:, 0] * (DEGREES * torch.pi / 180)
    down = epsilon * shares[:, 1] * round(height / 10)
    across = epsilon * shares[:, 2] * round(width / 10)
    cosine, sine = angle.cos(), angle.sin()
    rows = torch.arange(height, dtype=torch.float64, device=x.device) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float64, device=x.device) - (width - 1) / 2
    up = rows[None, :, None] - down[:, None, None]
    left = columns[None, None, :] - across[:, None, None]
    cosine, sine = cosine[:, None, None], sine[:, None, None]
    # Where each pixel comes from, in the units of grid_sample: the outer edges are at ±1.
    from_row = (cosine * up - sine * left) * (2 / height)
    from_column = (sine * up + cosine * left) * (2 / width)
    places = torch.stack([from_column, from_row], dim=3)
    mass = x.double() - box[0]
    moved = functional.grid_sample(mass, places, align_corners=False, padding_mode="zeros")
    return x.where(still, in_box(moved + box[0], x, box))


def _members() -> Iterator[Member]:
    for angle in range(-ANGLES, ANGLES + 1):
        for down in range(-SHIFTS, SHIFTS + 1):
            for across in range(-SHIFTS, SHIFTS + 1):
                yield angle / ANGLES, down / SHIFTS, across / SHIFTS
