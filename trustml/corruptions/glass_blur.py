"""Glass blur: seen through frosted glass."""

import torch
from torch import Tensor

from trustml.contracts import Random
from trustml.corruptions._fields import scale, smoothed
from trustml.registry import corruption

# Deviation of the blur, how far pixels are swapped, how many times; lengths in pixels of 32, and no
# shorter on smaller pictures, where a swap is of neighbours all the same.
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))


@corruption(source="Hendrycks & Dietterich 2019, arXiv:1903.12261")
def glass_blur(x: Tensor, severity: int, /, *, random: Random) -> Tensor:
    """Return x with neighbouring pixels swapped at random, blurred before and after.

    Args:
        x: pictures (B, C, H, W) in [0, 1].
        severity: 1 to 5.
        random: the pictures' random numbers.
    """
    sigma, far, times = GLASS[severity - 1]
    size = max(scale(x), 1.0)
    far, image = max(1, round(far * size)), smoothed(x, sigma * size)
    channels, height, width = x.shape[1:]
    flat, rows = image.flatten(2).clone(), torch.arange(len(x), device=x.device)
    for turn in range(times):
        by = random.integers(2 * far, (height * width, 2), "glass_blur", turn).to(x.device) - far
        for down in range(height - far, far, -1):
            for across in range(width - far, far, -1):
                if down >= height or across >= width:
                    continue
                here = down * width + across
                there = here + by[:, here, 0] * width + by[:, here, 1]
                kept = flat[:, :, here].clone()
                flat[:, :, here] = flat[rows, :, there]
                flat[rows, :, there] = kept
    return smoothed(flat.view(len(x), channels, height, width), sigma * size)
