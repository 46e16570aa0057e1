"""Two half moons in the plane."""

from collections.abc import Mapping

import numpy as np
import torch

from trustml.contracts import Dataset, Norm, Split
from trustml.data._made import SAMPLES, uniform
from trustml.data._outside import Outside, Partner, outside_split
from trustml.data._parts import cut, split_of
from trustml.errors import BadOption
from trustml.registry import data
from trustml.splits import check_dataset

CENTRE = (0.5, 0.25)  # of the moons as they are drawn, which reach 1.5 to each side of it
REACH = 1.5
TAIL = 4  # standard deviations of the noise that the box leaves room for
BUDGETS: Mapping[Norm, float] = {"linf": 0.05, "l2": 0.05, "l1": 0.07, "l0": 1.0}
FAR = 0.1  # of the box: this far from every training point, nothing was seen


@data(source="scikit-learn, make_moons; Pedregosa et al. 2011, JMLR 12")
def moons(
    *,
    folder: str | None,
    samples: int = 2000,
    noise: float = 0.1,
    seed: int = 0,
    validation: float = 0.1,
    test: float = 0.3,
) -> Dataset:
    """Return points (2,) of two interleaved half circles, scaled into the unit box.

    Both axes are scaled alike, by numbers that depend on `noise` alone.

    Args:
        folder: not used; nothing is read.
        samples: how many, half of them of each moon.
        noise: standard deviation of the normal noise, where a moon's radius is 1.
        seed: of the noise and the order.
        validation: share that is kept for validation.
        test: share that is kept for the test.

    Raises:
        BadOption: fewer than 2 samples, a negative noise or seed, or shares that cannot be had.
    """
    if samples < 2 or noise < 0 or not 0 <= seed < 2**32:
        raise BadOption(
            f"moons: samples={samples}, noise={noise:g}, seed={seed}; "
            f"wanted samples of 2 or more, noise of 0 or more, seed from 0 to 2**32 - 1"
        )
    points, labels = crescents(samples, noise, seed)
    half = REACH + TAIL * noise
    points = np.clip((points - CENTRE) / (2 * half) + 0.5, 0, 1)
    rows = cut(samples, "moons", test=test, validation=validation)
    tested, held, train = (split_of(points[part], labels[part], part, 2) for part in rows)
    outside = Outside({"noise": Partner(lambda: _away_from(train, tested))})
    names = ("upper", "lower")
    return check_dataset(Dataset("moons", train, held, tested, names, BUDGETS, outside))


def crescents(samples: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (B, 2) and labels (B,) that scikit-learn's make_moons draws."""
    upper = np.linspace(0, np.pi, samples // 2)
    lower = np.linspace(0, np.pi, samples - samples // 2)
    points = np.concatenate(
        [
            np.stack([np.cos(upper), np.sin(upper)], 1),
            np.stack([1 - np.cos(lower), 1 - np.sin(lower) - 0.5], 1),
        ]
    )
    labels = np.repeat([0, 1], [len(upper), len(lower)])
    generator = np.random.RandomState(seed)  # the stream that scikit-learn draws from
    order = np.arange(samples)
    generator.shuffle(order)
    return points[order] + generator.normal(scale=noise, size=points.shape), labels[order]


def _away_from(train: Split, test: Split) -> Split:
    """Return points uniform over the part of the box that is far from all training points."""
    x = uniform(4 * SAMPLES, (2,), test.low, test.high)
    nearest = torch.cat([torch.cdist(part, train.x).amin(1) for part in x.split(500)])
    x = x[nearest > FAR][:SAMPLES]
    return outside_split("noise", x, test, torch.arange(len(x)))
