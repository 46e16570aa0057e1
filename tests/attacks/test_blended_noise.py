"""Blended noise against models whose border is known."""

import pytest
import torch
from torch import Tensor

from tests.attacks.two_classes import IDS, SAMPLES, fooled, linear, spent
from trustml.attacks.blended_noise import blended_noise
from trustml.errors import BadOption
from trustml.geometry import distance
from trustml.randomness import keyed
from trustml.threats import Lp

INFINITE = float("inf")


def light(x: Tensor) -> Tensor:
    """Class 1 just where the mean is above 0.4: every brighter image is misread alike."""
    mean = x.flatten(1).double().mean(1)
    return torch.stack([torch.full_like(mean, 0.4), mean], 1).float()


@pytest.mark.parametrize(("noise", "mean"), [("uniform", 0.5), ("salt_and_pepper", 0.5)])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_ways_are_followed_to_the_border(noise: str, mean: float, norm: str) -> None:
    """On a way from black to noise of mean 0.5 the border is at the mean 0.4, four fifths of it.

    In L1 that is 0.4 · D whatever the noise, so no way is shorter.
    """
    x, y = torch.zeros(SAMPLES, 1, 20, 20), torch.zeros(SAMPLES, dtype=torch.int64)
    threat = Lp(norm, INFINITE)
    found = blended_noise(light, x, y, threat, random=keyed(0, IDS), queries=200, noise=noise)
    assert bool((light(found).argmax(1) == 1).all())
    assert bool((found.flatten(1).mean(1) < 0.41).all())
    if norm == "l1":
        assert bool((distance(found, x, norm) / 400 - 0.4).abs().max() < 0.01)


def test_l0_replaces_entries() -> None:
    """Half of salt and pepper is white: four fifths of the entries are replaced."""
    x, y = torch.zeros(SAMPLES, 1, 20, 20), torch.zeros(SAMPLES, dtype=torch.int64)
    options = {"random": keyed(0, IDS), "queries": 200, "noise": "salt_and_pepper"}
    found = blended_noise(light, x, y, Lp("l0", INFINITE), **options)
    assert bool((light(found).argmax(1) == 1).all())
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert bool((distance(found, x, "l0") <= 165).all())


def test_targets_are_reached_and_nothing_below_the_least_distance() -> None:
    assert fooled("blended_noise", "l2", 12.0, queries=1000, aimed=True) > 0.7
    assert fooled("blended_noise", "l2", 0.99, queries=300) == 0.0


def test_no_more_is_asked_than_allowed() -> None:
    """A way is begun only where its end could be paid for too."""
    assert bool((spent("blended_noise", "l2", queries=60) == 52).all())


def test_bad_options_are_refused() -> None:
    model, x, y = linear((4,))
    with pytest.raises(BadOption):
        blended_noise(model, x, y, Lp("l2", 0.1), random=keyed(0, IDS), queries=0)


def test_salt_and_pepper_falls_on_whole_pixels() -> None:
    """Grey pictures in three channels: what changed is black or white in all three."""
    x, y = torch.full((SAMPLES, 3, 10, 10), 0.3), torch.zeros(SAMPLES, dtype=torch.int64)
    options = {"random": keyed(0, IDS), "queries": 100, "noise": "salt_and_pepper"}
    found = blended_noise(light, x, y, Lp("l0", INFINITE), **options)
    changed = found != x
    assert bool(changed.any())
    assert torch.equal(changed.any(1), changed.all(1))
    assert torch.equal(found.amin(1), found.amax(1))


def test_a_new_way_counts_only_where_it_is_nearer() -> None:
    """More queries never end farther away, in each sample."""
    x, y = torch.zeros(SAMPLES, 1, 20, 20), torch.zeros(SAMPLES, dtype=torch.int64)
    far = [
        distance(
            blended_noise(light, x, y, Lp("l0", INFINITE), random=keyed(0, IDS), queries=queries,
                          noise="salt_and_pepper"), x, "l0")
        for queries in (40, 120, 400)
    ]  # fmt: skip
    assert bool((far[1] <= far[0]).all())
    assert bool((far[2] <= far[1]).all())
    assert bool((far[2] < far[0]).any())
