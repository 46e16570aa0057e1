"""Inputs that are made, not collected: noise, distorted test inputs, patches of photographs."""

import math

import numpy as np
import torch
from torch import Tensor

from trustml.contracts import Split
from trustml.data._parts import scrambled
from trustml.partners import fitted

SAMPLES = 2000
SPREAD = 0.25  # standard deviation of normal noise, in widths of the box
SCALES = (1, 2, 4)  # a photograph is shrunk by each of these before patches are cut from it
LEAST_ROOM = 2  # a patch takes at most this part of a photograph's shorter side


def uniform(count: int, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return `count` inputs (B, *S) uniform in the box, the same ones always."""
    unit = _unit(count * math.prod(shape))
    x = torch.from_numpy((low + (high - low) * unit).astype(np.float32)).reshape(count, *shape)
    return x.clamp_(low, high)


def gaussian(count: int, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return `count` inputs (B, *S), normal about the box's middle and cut to it."""
    numbers = count * math.prod(shape)
    unit = torch.from_numpy(_unit(2 * numbers)[numbers:])  # other numbers than those of `uniform`
    normal = 2**0.5 * torch.erfinv((2 * unit - 1).clamp(-1 + 2**-24, 1 - 2**-24))
    x = 0.5 * (low + high) + SPREAD * (high - low) * normal
    return x.to(torch.float32).reshape(count, *shape).clamp_(low, high)


def inverted(test: Split) -> Tensor:
    """Return the test images with dark and bright exchanged."""
    return (test.low + test.high - test.x).clamp(test.low, test.high)


def rotated(test: Split) -> Tensor:
    """Return the test images turned by a quarter, or by a half where they are not square."""
    height, width = test.x.shape[-2:]
    return test.x.rot90(1 if height == width else 2, (-2, -1)).contiguous()


def shuffled(test: Split) -> Tensor:
    """Return the test images with each one's rows, then its columns, in another order."""
    height, width = test.x.shape[-2:]
    keys = scrambled(len(test) * (height + width)).reshape(len(test), height + width)
    rows = torch.from_numpy(keys[:, :height].argsort(1))[:, None, :, None]
    columns = torch.from_numpy(keys[:, height:].argsort(1))[:, None, None, :]
    return test.x.gather(2, rows.expand_as(test.x)).gather(3, columns.expand_as(test.x))


def photographs(count: int, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Return `count` patches (B, C, H, W) of scikit-learn's two photographs, the same ones always.

    Patches have the size of the data and are cut at three scales, so that small ones show something
    too; grey where the data have not three channels.
    """
    from sklearn.datasets import load_sample_images

    _, height, width = shape
    photos = []
    for image in load_sample_images().images:
        photo = torch.from_numpy(image.copy()).movedim(-1, 0).float()[None] / 255
        sides = [(photo.shape[2] // scale, photo.shape[3] // scale) for scale in SCALES]
        roomy = [s for s in sides if min(s) >= LEAST_ROOM * max(height, width)]
        # Data larger than the photographs get patches of enlarged ones.
        chosen = roomy or [(LEAST_ROOM * max(height, width),) * 2]
        photos += [fitted(photo, (shape[0], *side))[0] for side in chosen]
    places = (scrambled(2 * count) >> np.uint64(40)).reshape(count, 2) / 2**24
    patches = []
    for number, (down, right) in enumerate(places):
        photo = photos[number % len(photos)]
        top = int(down * (photo.shape[1] - height + 1))
        left = int(right * (photo.shape[2] - width + 1))
        patches.append(photo[:, top : top + height, left : left + width])
    return (low + (high - low) * torch.stack(patches)).clamp(low, high)


def _unit(count: int) -> np.ndarray:
    """Return numbers (count,) in [0, 1), as good as random, always the same."""
    return np.asarray((scrambled(count) >> np.uint64(40)) / 2**24)
