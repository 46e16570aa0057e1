"""Two moons, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from trustml.data.moons import crescents, moons
from trustml.errors import BadOption


@pytest.mark.parametrize(
    ("samples", "noise", "seed"), [(10, 0.0, 0), (501, 0.1, 3), (200, 0.5, 2**32 - 1)]
)
def test_points_are_those_of_make_moons(samples, noise, seed):
    points, labels = crescents(samples, noise, seed)
    wanted, classes = make_moons(samples, noise=noise, random_state=seed)
    np.testing.assert_allclose(points, wanted, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(labels, classes)


def test_the_box_holds_the_moons_by_one_scale_for_both_axes():
    # At noise 0 the box is 3 wide about (0.5, 0.25): x = raw_x / 3 + 1/3, y = raw_y / 3 + 5/12.
    dataset = moons(folder=None, samples=400, noise=0.0)
    raw, labels = make_moons(400, noise=0.0, random_state=0)
    for split in (dataset.train, dataset.validation, dataset.test):
        rows = split.ids.numpy()
        wanted = raw[rows] / 3 + [1 / 3, 5 / 12]
        np.testing.assert_allclose(split.x.numpy(), wanted, atol=1e-6)
        np.testing.assert_array_equal(split.y.numpy(), labels[rows])


def test_almost_no_noisy_point_is_moved_to_the_edge():
    # The margin is 4 standard deviations: 6e-5 of normal draws lie beyond it, on each axis.
    dataset = moons(folder=None, samples=20_000, noise=0.3)
    edge = ((dataset.train.x == 0) | (dataset.train.x == 1)).any(1).float().mean()
    assert edge < 5e-4


def test_the_scale_does_not_depend_on_the_sample():
    # The first points of a moon without noise are the same whatever else was drawn.
    few, many = (moons(folder=None, samples=n, noise=0.0).train.x.max(0).values for n in (300, 900))
    assert torch.allclose(few, many, atol=1e-2)


def test_another_seed_is_another_sample():
    one, other = (moons(folder=None, seed=seed).train.x for seed in (0, 1))
    assert not torch.equal(one, other)


def test_outside_lies_far_from_every_training_point():
    dataset = moons(folder=None)
    outside = dataset.outside["noise"]
    assert len(outside) == 2000
    assert torch.cdist(outside.x, dataset.train.x).min() > 0.1


@pytest.mark.parametrize(
    "options", [{"samples": 1}, {"noise": -0.1}, {"seed": -1}, {"seed": 2**32}]
)
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(BadOption, match="moons"):
        moons(folder=None, **options)
