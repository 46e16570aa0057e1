"""Structure: 1 − SSIM, a loss of likeness in brightness, contrast and pattern, is bounded."""

import torch
from torch import Tensor
from torch.nn import functional

from trustml.contracts import Random
from trustml.measures._images import Box, check_images, furthest, in_box, one_each

USUAL = 0.1
_WINDOW, _SIGMA = 11, 1.5
_SHY = 1 - 1e-9
_LEAST = 1e-12


def check(x: Tensor) -> None:
    """Check that the inputs are images.

    Raises:
        NotApplicable: they are not.
    """
    check_images("structure", x)


def distance(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box) -> Tensor:
    """Return 1 − SSIM (B,) in float64; exactly 0 just where nothing changed."""
    same = (candidate == x).flatten(1).all(1)
    # What rounds away below this is a loss all the same.
    lost = (1 - likeness(candidate, x, box[1] - box[0])).clamp_min(_LEAST)
    return lost.masked_fill(same, 0.0)


def project(candidate: Tensor, x: Tensor, epsilon: Tensor, box: Box, *, rounds: int = 40) -> Tensor:
    """Return the image on the way from x to the candidate, as far as the likeness allows."""
    far, shape = _SHY * one_each(epsilon, x), (len(x), 1, 1, 1)
    boxed = in_box(candidate, x, box)
    return furthest(boxed, x, lambda point: distance(point, x, epsilon, box) <= far, shape, rounds)


def drawn(x: Tensor, epsilon: Tensor, box: Box, random: Random, draw: int) -> Tensor:
    """Return x with as much uniform noise as the likeness allows."""
    low, high = box
    wish = low + random.uniform(tuple(x.shape[1:]), "structure", draw).to(x) * (high - low)
    return project(wish, x, epsilon, box)


def likeness(one: Tensor, other: Tensor, side: float) -> Tensor:
    """Return the mean SSIM (B,) of two images (B, C, H, W), in float64.

    Wang et al. 2004, equation 13: Gaussian windows of 11 pixels, σ = 1.5, K1 = 0.01, K2 = 0.03,
    over all places where the window lies within the image, and all channels. Smaller images get
    the largest odd window that fits.

    Args:
        one: an image.
        other: the other.
        side: of the box.
    """
    first, second = one.double() / side, other.double() / side
    kernels = [_gaussian(size, first) for size in one.shape[2:]]
    means = [_blurred(image, kernels) for image in (first, second)]
    squares = [
        _blurred(a * b, kernels) - c * d
        for a, b, c, d in (
            (first, first, means[0], means[0]),
            (second, second, means[1], means[1]),
            (first, second, means[0], means[1]),
        )
    ]
    light, contrast = 0.01**2, 0.03**2
    above = (2 * means[0] * means[1] + light) * (2 * squares[2] + contrast)
    below = means[0].square() + means[1].square() + light
    return (above / (below * (squares[0] + squares[1] + contrast))).flatten(1).mean(1)


def _gaussian(size: int, like: Tensor) -> Tensor:
    width = min(_WINDOW, size - 1 + size % 2)
    place = torch.arange(width, dtype=like.dtype, device=like.device) - (width - 1) / 2
    weight = torch.exp(-place.square() / (2 * _SIGMA**2))
    return weight / weight.sum()


def _blurred(image: Tensor, kernels: list[Tensor]) -> Tensor:
    flat = image.flatten(0, 1)[:, None]
    flat = functional.conv2d(flat, kernels[0].view(1, 1, -1, 1))
    flat = functional.conv2d(flat, kernels[1].view(1, 1, 1, -1))
    return flat.view(*image.shape[:2], *flat.shape[2:])
