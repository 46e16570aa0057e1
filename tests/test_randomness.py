"""Random numbers by sample: distributions, independence, and no dependence on the batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trustml import randomness
from trustml.randomness import keyed

IDS = torch.arange(400)


def test_uniform_and_normal_have_their_distributions() -> None:
    """Kolmogorov-Smirnov against scipy: p is uniform under the truth, 1e-3 is rare bad luck."""
    uniform = keyed(0, IDS).uniform((50,), "u").flatten().double().numpy()
    normal = keyed(0, IDS).normal((50,), "n").flatten().double().numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert uniform.min() >= 0
    assert uniform.max() < 1


@pytest.mark.parametrize("high", [2, 10, 97])
def test_integers_are_equally_likely(high: int) -> None:
    """Chi-square against equal counts."""
    counts = keyed(1, IDS).integers(high, (200,), "i").flatten().bincount(minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_integers_refuse_bounds_out_of_reach() -> None:
    """32 random bits give no even choice among more than 2^24."""
    for high in (0, -1, 2**24 + 1):
        with pytest.raises(ValueError, match="2\\^24"):
            keyed(0, IDS).integers(high, (), "i")


def test_samples_purposes_steps_seeds_and_folds_are_uncorrelated() -> None:
    """Correlations of 20 000 independent pairs lie within 4.5 standard errors of 0."""
    base, count = keyed(0, IDS), 50
    first = base.uniform((count,), "a")
    others = [
        base.uniform((count,), "b"),
        base.uniform((count,), "a", 1),
        keyed(1, IDS).uniform((count,), "a"),
        keyed(0, IDS + 400).uniform((count,), "a"),
        keyed(0, IDS + 2**32).uniform((count,), "a"),
        base.fold(0).uniform((count,), "a"),
        base.fold(1).uniform((count,), "a"),
        first.roll(1, 0),
        first.roll(1, 1),
    ]
    bound = 4.5 / (IDS.numel() * count) ** 0.5
    for other in others:
        both = torch.stack([first.flatten(), other.flatten()]).double()
        assert abs(torch.corrcoef(both)[0, 1].item()) < bound


@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=8, unique=True))
def test_a_sample_has_the_same_numbers_in_any_batch(ids: list[int]) -> None:
    """Keyed by sample id: alone, in a batch, or taken from one."""
    together = keyed(5, torch.tensor(ids))
    batch = together.normal((3, 2), "x", 4)
    for row, name in enumerate(ids):
        alone = keyed(5, torch.tensor([name]))
        assert torch.equal(alone.normal((3, 2), "x", 4)[0], batch[row])
        taken = together.at(torch.tensor([row]))
        assert torch.equal(taken.normal((3, 2), "x", 4)[0], batch[row])


def test_folds_by_sample_are_the_folds_one_by_one() -> None:
    """A tensor of numbers folds each sample with its own."""
    streams = keyed(2, torch.arange(3))
    folded = streams.fold(torch.tensor([4, 5, 6])).uniform((8,), "x")
    for row, number in enumerate((4, 5, 6)):
        assert torch.equal(folded[row], streams.fold(number).uniform((8,), "x")[row])


def test_numbers_never_change_between_versions() -> None:
    """Records name only a seed, so these first values are part of the format."""
    first = keyed(0, torch.tensor([0, 7])).integers(1000, (3,), "start")
    assert first.tolist() == [[797, 319, 848], [77, 345, 506]]


@pytest.mark.parametrize("count", [1, 2, 5, 333])
def test_the_words_of_the_host_are_those_of_any_device(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned words of numpy and signed ones of torch have the same bits, or seeds mean less."""
    streams = keyed(7, torch.arange(-50, 50)).fold(3)

    def drawn() -> list[torch.Tensor]:
        return [
            streams.uniform((count,), "u", 4),
            streams.normal((count,), "n"),
            streams.integers(97, (count,), "i", 1),
        ]

    by_numpy = drawn()
    monkeypatch.setattr(randomness, "HOSTS", ())
    for one, other in zip(by_numpy, drawn(), strict=True):
        assert torch.equal(one, other)
