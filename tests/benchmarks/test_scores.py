"""Scores, costs and the worst case on samples small enough to count by hand."""

import pytest
import torch
from scipy import stats

from trustml.benchmarks.samples import CLEAN_WRONG, FOOLED, ROBUST, Samples, sealed
from trustml.benchmarks.scores import cost, scores, worst_case


def _samples(verdict: list[int], far: list[float], forwards: float = 3.0) -> Samples:
    """Return samples whose four distances are far, 2 far, 3 far and 4 far."""
    wide = torch.tensor(far, dtype=torch.float64)[:, None] * torch.arange(1, 5)
    inputs = torch.tensor(verdict).float()[:, None] + wide.float()[:, :2]
    passes = torch.full((len(verdict),), forwards)
    return sealed(
        torch.arange(len(verdict)), torch.tensor(verdict), inputs, wide, (passes, passes / 3)
    )


def test_the_rates_are_counted_over_the_right_samples() -> None:
    """Of 10: 2 wrong before, 3 fooled, 5 robust. Success is of the 8, the accuracies of the 10."""
    found = scores(_samples([2, 2, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 1, 2, 9, 5, 5, 5, 5, 5]), 1.0)
    assert found["clean accuracy"].value == 0.8
    assert found["robust accuracy"].value == 0.5
    assert found["attack success"].value == pytest.approx(3 / 8)
    assert found["attack success"].better == "lower"
    assert found["robust accuracy"].better == "higher"


def test_the_median_distances_are_those_of_the_fooled() -> None:
    """1, 2 and 9 have the median 2 in L0, twice that in L1, and so on; the robust do not count."""
    found = scores(_samples([1, 1, 1, 0], [1, 2, 9, 5]), 1.0)
    medians = [found[f"median {norm}"].value for norm in ("l0", "l1", "l2", "linf")]
    assert medians == [2, 4, 6, 8]


def test_the_interval_is_that_of_the_beta_posterior() -> None:
    """5 of 10 under the uniform prior are Beta(6, 6), whose quantiles scipy knows."""
    found = scores(_samples([0] * 5 + [1] * 5, [1.0] * 10), 1.0)["robust accuracy"]
    ends = stats.beta.ppf([0.025, 0.975], 6, 6).tolist()
    assert [found.low, found.high] == pytest.approx(ends, abs=1e-9)


def test_scores_without_anything_to_count() -> None:
    """Nothing read rightly: there is no success rate; nothing fooled: there are no distances."""
    assert set(scores(_samples([2, 2], [0, 0]), 1.0)) == {"clean accuracy", "robust accuracy"}
    assert "median l2" not in scores(_samples([0, 2], [1, 0]), 1.0)


def test_passes_are_means_over_the_attacked() -> None:
    """Two of three were attacked, with 3 forwards and 1 backward each."""
    samples = _samples([2, 1, 0], [0, 1, 1])
    samples.forwards[0] = 100.0
    found = cost(samples, 1.5, 20.0)
    assert (found.forwards, found.backwards, found.queries) == (3.0, 1.0, 3.0)
    assert (found.seconds, found.peak_mib) == (1.5, 20.0)
    assert cost(_samples([2], [0]), 0.0, None).forwards == 0.0


def test_the_worst_case_is_the_nearest_that_fooled() -> None:
    """By sample: only the first fooled; only the second; both, the second nearer; none; wrong."""
    first = _samples([1, 0, 1, 0, 2], [0.4, 0.1, 0.3, 0.1, 0.0])
    second = _samples([0, 1, 1, 0, 2], [0.1, 0.4, 0.2, 0.2, 0.0], forwards=6.0)
    worst = worst_case([first, second], "l2")
    assert worst.verdict.tolist() == [FOOLED, FOOLED, FOOLED, ROBUST, CLEAN_WRONG]
    picked = [first, second, second, first, first]
    for row, part in enumerate(picked):
        assert torch.equal(worst.adversarial[row], part.adversarial[row])
        assert torch.equal(worst.distances[row], part.distances[row])
    assert worst.forwards.tolist() == [9.0] * 5
    assert worst.backwards.tolist() == [3.0] * 5


def test_the_worst_case_goes_by_the_norm_of_the_threat() -> None:
    """One is nearer in L0, the other in Linf."""
    one, other = _samples([1], [1.0]), _samples([1], [1.0])
    one.distances[0], other.distances[0] = (
        torch.tensor([1.0, 1, 1, 0.9]),
        torch.tensor([5.0, 1, 1, 0.1]),
    )
    assert worst_case([one, other], "l0").distances[0, 0] == 1.0
    assert worst_case([one, other], "linf").distances[0, 3] == pytest.approx(0.1)


def test_the_worst_case_of_one_is_itself() -> None:
    one = _samples([1, 0, 2], [0.4, 0.1, 0.0])
    assert torch.equal(worst_case([one], "l1").digest, one.digest)
