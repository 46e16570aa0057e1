"""Colour: no pixel's colour differs by more than so much in CIEDE2000, the eye's own measure.

About 1 is the least difference that an observer sees side by side. Inputs are sRGB.
"""

import math

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.measures._images import Box, check_images, furthest, in_box, one_each

USUAL = 5.0
# Linear sRGB → CIE XYZ over the white D65 (IEC 61966-2-1), rows X/Xn, Y/Yn, Z/Zn.
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
           (0.0193339, 0.1191920, 0.9503041))  # fmt: skip
_SHY = 1 - 1e-9
_TINY, _LEAST = 1e-300, 1e-12


def check(x: Tensor) -> None:
    """Check that the inputs are colour pictures.

    Raises:
        NotApplicable: they are not.
    """
    check_images("colour", x, channels=3)


def distance(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return the largest CIEDE2000 difference (B,) of any pixel."""
    return _apart(candidate, x, box).flatten(1).amax(1)


def project(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box, *, rounds: int = 40) -> Tensor:
    """Return each pixel's colour on the way to the candidate's, as far as it may differ."""
    far = _SHY * one_each(epsilon, x)[:, None, None]
    shape = (len(x), 1, *x.shape[2:])
    boxed = in_box(candidate, x, box)
    return furthest(boxed, x, lambda point: _apart(point, x, box) <= far, shape, rounds)


def drawn(x: Tensor, epsilon: Tensor, box: Box, random: Random, draw: int) -> Tensor:
    """Return x with each pixel moved towards a random colour, as far as it may."""
    low, high = box
    wish = low + random.uniform(tuple(x.shape[1:]), "colour", draw).to(x) * (high - low)
    return project(wish, x, epsilon, box)


def to_lab(rgb: Tensor) -> Tensor:
    """Return CIELAB (…, 3) of sRGB colours (…, 3) in [0, 1], in float64."""
    rgb = rgb.double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp_min(0) + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(_TO_XYZ, dtype=torch.float64, device=rgb.device)
    # By rows' own sums: then white is exactly (1, 1, 1).
    xyz = linear @ (matrix / matrix.sum(1, keepdim=True)).T
    curved = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp_min(_TINY) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29
    )
    first, second, third = curved.unbind(-1)
    return torch.stack([116 * second - 16, 500 * (first - second), 200 * (second - third)], dim=-1)


def ciede2000(one: Tensor, other: Tensor) -> Tensor:
    """Return the difference (…) of two CIELAB colours (…, 3).

    Sharma, Wu & Dalal 2005, equations 2 to 22, with all weights 1.
    """
    (l1, a1, b1), (l2, a2, b2) = one.unbind(-1), other.unbind(-1)
    mean = (torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2
    grow = 1 + 0.5 * (1 - (mean**7 / (mean**7 + 25.0**7)).sqrt())
    c1, c2 = torch.hypot(a1 * grow, b1), torch.hypot(a2 * grow, b2)
    h1, h2 = _hue(a1 * grow, b1), _hue(a2 * grow, b2)
    grey = c1 * c2 == 0
    turn = h2 - h1
    turn = torch.where(turn > 180, turn - 360, torch.where(turn < -180, turn + 360, turn))
    turn = turn.masked_fill(grey, 0.0)
    wide = (h1 - h2).abs() > 180
    hue = torch.where(wide, torch.where(h1 + h2 < 360, h1 + h2 + 360, h1 + h2 - 360), h1 + h2) / 2
    hue = torch.where(grey, h1 + h2, hue)
    light, strong = (l1 + l2) / 2, (c1 + c2) / 2
    shape = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue)
    shape = shape + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)
    square = (light - 50).square()
    by_light = (l2 - l1) / (1 + 0.015 * square / (20 + square).sqrt())
    by_chroma = (c2 - c1) / (1 + 0.045 * strong)
    by_hue = 2 * (c1 * c2).sqrt() * torch.sin(turn * (math.pi / 360)) / (1 + 0.015 * strong * shape)
    bend = 60 * (-((hue - 275) / 25).square()).exp()
    rotation = -2 * (strong**7 / (strong**7 + 25.0**7)).sqrt() * torch.sin(bend * (math.pi / 180))
    square = (
        by_light.square() + by_chroma.square() + by_hue.square() + rotation * by_chroma * by_hue
    )
    return square.clamp_min(0).sqrt()


def _apart(candidate: Tensor, x: Tensor, box: Box) -> Tensor:
    """Return each pixel's difference (B, H, W); exactly 0 just where it is the same colour."""
    low, high = box
    one, other = (
        to_lab((image.double().movedim(1, -1) - low) / (high - low)) for image in (x, candidate)
    )
    # What rounds away below this is a difference all the same.
    apart = ciede2000(one, other).clamp_min(_LEAST)
    return apart.masked_fill((candidate == x).all(1), 0.0)


def _hue(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle in [0, 360), 0 for grey."""
    return torch.atan2(b, a) * (180 / math.pi) % 360


def _cos(degrees: Tensor) -> Tensor:
    return torch.cos(degrees * (math.pi / 180))
