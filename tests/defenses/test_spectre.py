"""SPECTRE: its whitening against numpy, its score in the limits, and poisons planted in noise."""

import numpy as np
import pytest
import torch

from trustml.data.digits import digits
from trustml.defenses import spectre as room
from trustml.defenses.spectral_signatures import spectral_scores
from trustml.defenses.spectre import entropy_scores, spectre, whitened, whitened_scores
from trustml.errors import BadOption
from trustml.poisoning.badnets import badnets
from trustml.randomness import keyed
from trustml.separation import auroc


def test_whitening_is_by_the_ordinary_ones() -> None:
    """One far sample of 40 is not among the nearest 85 %: the others' moments, not its own, count.

    The fixed point is checked by numpy: the nearest have mean 0 and covariance 1.
    """
    seen = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    seen = seen @ torch.tensor([[5.0, 0, 0], [1, 1, 0], [0, 0, 0.1]]).double()
    seen[7] = torch.tensor([400.0, -90.0, 7.0])
    white = whitened(seen)
    far = white.square().sum(1)
    assert int(far.argmax()) == 7
    nearest = white[far <= far.quantile(room.ORDINARY)].numpy()
    assert np.allclose(nearest.mean(0), 0, atol=0.05)
    assert np.allclose(np.cov(nearest.T), np.eye(3), atol=0.1)


def test_the_score_by_hand() -> None:
    """Σ = diag(1, 3): (Σ − I) / (‖Σ‖ − 1) = diag(0, 1), so the weights are 1 and e⁴."""
    white = torch.tensor([[1.0, 0], [-1, 0], [0, 3**0.5], [0, -(3**0.5)]]).double()
    white = white * (3 / 2) ** 0.5  # second moments over N − 1 = 3: 1 and 3
    total = 1 + np.exp(4.0)
    wanted = np.array([1.5, 1.5, 4.5 * np.exp(4), 4.5 * np.exp(4)]) / total
    assert np.allclose(entropy_scores(white).numpy(), wanted)


def test_a_heap_hidden_by_a_wide_axis_is_found() -> None:
    """2 % lie 6 deviations off on a narrow axis; the widest, which others read, is innocent."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(500, 6, generator=draw) * torch.tensor([20.0, 5, 1, 1, 1, 1])
    features[:10, 2] += 6
    y = torch.zeros(500, dtype=torch.int64)
    odd = torch.arange(500) < 10
    mine = whitened_scores(features, y, 6)
    theirs = spectral_scores(features, y)
    assert auroc(mine[~odd], mine[odd]).value > 0.95
    assert auroc(theirs[~odd], theirs[odd]).value < 0.8


def test_it_takes_out_planted_backdoors() -> None:
    """BadNets at 2 % of digits: 1.5 times the rate goes from each class, most poisons with it."""
    clean = digits(folder=None).train
    split, _ = badnets(clean, random=keyed(0, clean.ids), rate=0.02, size=2)
    left = spectre(split, rate=0.02, model="mlp:epochs=8,patience=0")
    for number in range(10):
        gone = int((split.y == number).sum()) - int((left.y == number).sum())
        assert gone == round(1.5 * 0.02 * len(split))
    taken = ~torch.isin(split.ids, left.ids)
    assert float(taken[split.y != clean.y].double().mean()) > 0.7


def test_a_class_of_one_and_features_without_spread_are_scored() -> None:
    """Nothing is divided by zero."""
    features = torch.zeros(6, 4)
    features[5] = 1.0
    scores = whitened_scores(features, torch.tensor([0, 0, 0, 0, 0, 1]), 3)
    assert bool(scores.isfinite().all())


def test_options_out_of_range_are_named() -> None:
    split = digits(folder=None).train.at(slice(50))
    with pytest.raises(BadOption, match="rate"):
        spectre(split, rate=0.0)
    with pytest.raises(BadOption, match="dimensions=0"):
        spectre(split, dimensions=0)
