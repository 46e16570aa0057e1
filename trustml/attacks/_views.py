"""Views of an image that a walk averages over: smaller and elsewhere, darker; kernels for slopes.

Each view is linear in the image: each of its rows and columns is made of two old ones, and each old
one goes to two at most, so that a slope is led back the same way. Kernels sum in float64, so that
no rounding depends on a sample's companions.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from trustml.access import at
from trustml.attacks._flights import room
from trustml.attacks._pursuit import Loss, Seen, look
from trustml.attacks._quarry import Quarry
from trustml.contracts import Classifier, Random
from trustml.errors import NotApplicable
from trustml.geometry import like

# The least side of a view, as a share of the image's (330 to 299 pixels in Xie et al. 2019).
_LEAST = 0.9
# Sides up to which all the ways to make an image smaller are kept, a few megabytes.
_TABLED = 64
# Standard deviations from the middle of a kernel to its edge (Dong et al. 2019).
_REACH = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Mixing:
    """What lines (B, 2, size, 2) each line is made of, and shares: there, then on the way back."""

    lines: Tensor
    shares: Tensor

    def of(self, images: Tensor, way: int) -> Tensor:
        """Return images (B, C, H, W) with rows mixed, there (0) or back (1)."""
        count, channels, height, width = images.shape
        first = torch.arange(0, count * channels * height, height, device=images.device)
        # By taps first, so that either's places lie together.
        places = self.lines[:, way].permute(2, 0, 1)[:, :, None] + first.view(count, channels, 1)
        shares = self.shares[:, None, way].to(images.dtype)
        flat = images.reshape(-1, width)
        one, other = (flat.index_select(0, some.flatten()) for some in places)
        made = one.view(images.shape).mul_(shares[..., :1])
        return made.addcmul_(other.view(images.shape), shares[..., 1:])


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """One view of each image (B, C, H, W): rows and columns mixed anew."""

    rows: Mixing
    columns: Mixing

    def of(self, images: Tensor) -> Tensor:
        """Return what the views show (B, C, H, W)."""
        return self._both(images, 0)

    def back(self, slope: Tensor) -> Tensor:
        """Return the slope (B, C, H, W) at the images that is `slope` at what the views show."""
        return self._both(slope, 1)

    def _both(self, images: Tensor, way: int) -> Tensor:
        return self.columns.of(self.rows.of(images, way).mT, way).mT.contiguous()


def shrunk(x: Tensor, random: Random, chance: float, step: int) -> Views:
    """Return views of images x (B, C, H, W), made smaller and put somewhere on black.

    Args:
        x: the images.
        random: the samples' random numbers.
        chance: how probable it is that an image is made smaller; else it stays.
        step: tells this draw from others.
    """
    drawn = random.uniform((4,), "view", step).double()
    ratio = torch.where(drawn[:, 0] < chance, _LEAST + (1 - _LEAST) * drawn[:, 1], 1.0)
    if x.shape[2] != x.shape[3]:
        rows, columns = (_mixing(x.shape[2 + way], ratio, drawn[:, 2 + way]) for way in (0, 1))
        return Views(rows, columns)
    # Of a square both at once: on small images the calls cost more than the numbers.
    both, count = _mixing(x.shape[2], ratio.repeat(2), drawn[:, 2:].mT.flatten()), len(x)
    return Views(
        *(
            Mixing(lines, shares)
            for lines, shares in zip(both.lines.split(count), both.shares.split(count), strict=True)
        )
    )


def blurred(slope: Tensor, size: int) -> Tensor:
    """Return slopes (B, C, H, W) convolved with a Gaussian kernel of `size` × `size`."""
    rows, columns = (_smearing(side, size, slope.device) for side in slope.shape[2:])
    return (rows @ slope.double() @ columns.mT).to(slope.dtype)


def looks(
    model: Classifier, points: list[Tensor], quarry: Quarry, loss: Loss
) -> tuple[Seen, list[Tensor]]:
    """Return what the first of the points (B, *S) show, and the slopes at each of them."""
    count, most = len(quarry.y), together(model, quarry.x)
    sights = []
    for first in range(0, len(points), most):
        group = points[first : first + most]
        part, some = copied(model, quarry, len(group))
        sights.append(look(part, torch.cat(group), some, loss))
    slopes = [slope for seen in sights for slope in seen.gradient.split(count)]
    one = sights[0]
    point, logits, losses = one.point[:count], one.logits[:count], one.losses[:count]
    return Seen(point, logits, losses, slopes[0], one.reached[:count]), slopes


def copied(model: Classifier, quarry: Quarry, count: int) -> tuple[Classifier, Quarry]:
    """Return the quarry so many times, one after the other, and the model for calls about it."""
    if count == 1:
        return model, quarry
    rows = torch.arange(len(quarry.y), device=quarry.y.device).repeat(count)
    return at(model, rows), quarry.at(rows)


def together(model: Classifier, x: Tensor) -> int:
    """Return how many copies of the samples a look has room for."""
    return max(1, room(model, x) // len(x))


def check_images(x: Tensor, name: str, option: str) -> None:
    """Refuse inputs that are no images.

    Raises:
        NotApplicable: x is not (B, C, H, W).
    """
    if x.dim() != 4:
        raise NotApplicable(
            f"{name}: {option} is for images of channels × height × width, not for inputs of shape "
            f"{tuple(x.shape[1:])}; leave it out"
        )


def _mixing(size: int, ratio: Tensor, place: Tensor) -> Mixing:
    """Return how `size` lines are mixed to be made fewer by the ratio (B,), at a place (B,)."""
    side = (ratio * size).round()
    first = (place * (size - side + 1)).floor()
    if size > _TABLED:
        return _taken(_placed(size, side, first))
    known, least = _table(size, ratio.device), round(_LEAST * size)
    number = ((side - least) * (size - least + 1) + first).long()
    return Mixing(known.lines[number], known.shares[number])


@lru_cache(maxsize=8)
def _table(size: int, device: torch.device) -> Mixing:
    """Return all there are: for each side from the least on, as many places."""
    least = round(_LEAST * size)
    count = size - least + 1
    sides = torch.arange(least, size + 1, dtype=torch.float64, device=device)
    firsts = torch.arange(count, dtype=torch.float64, device=device)
    return _taken(_placed(size, sides.repeat_interleave(count), firsts.repeat(count)))


def _taken(matrices: Tensor) -> Mixing:
    """Return the mixing of matrices (B, size, size) with two numbers a row and column at most."""
    shares, lines = torch.stack([matrices, matrices.mT], 1).topk(min(2, matrices.shape[2]), dim=3)
    if lines.shape[3] < 2:  # an image of one line
        lines, shares = lines.expand(-1, -1, -1, 2), torch.cat([shares, 0 * shares], 3)
    return Mixing(lines, shares)


def _placed(size: int, side: Tensor, first: Tensor) -> Tensor:
    """Return (B, size, size): rows made into `side` of them (B,), which begin at `first` (B,).

    A new row stands in the middle between old ones and takes from the two nearest; outside the
    smaller image it takes nothing.
    """
    rows = torch.arange(size, dtype=torch.float64, device=side.device)
    at = (rows - like(first, rows[None]) + 0.5) * like(size / side, rows[None]) - 0.5
    inside = (rows >= like(first, rows[None])) & (rows < like(first + side, rows[None]))
    near = at.clamp(0, size - 1)[:, :, None] - rows
    return (1 - near.abs()).clamp_min(0) * inside[:, :, None]


@lru_cache(maxsize=8)
def _smearing(side: int, size: int, device: torch.device) -> Tensor:
    """Return (side, side): what rows give to each other in a Gaussian kernel of so many entries."""
    line = torch.linspace(-_REACH, _REACH, size, dtype=torch.float64, device=device)
    line = (-line.square() / 2).exp()
    line = line / line.sum()
    row = torch.arange(side, device=device)
    place = row - row[:, None] + size // 2
    inside = (place >= 0) & (place < size)
    return line[place.clamp(0, size - 1)] * inside
