"""Randomised smoothing where the truth is known: a half-space's smoothed margin is its distance."""

import pytest
import torch
from scipy.stats import binom, binomtest, norm
from torch import Tensor, nn

from trustml.bounds.smoothing import ABSTAIN, lower_confidence, smoothed
from trustml.errors import BadOption, MethodFailed
from trustml.randomness import keyed


class HalfSpace(nn.Module):
    """Class 1 where direction · x > level."""

    def __init__(self, direction: Tensor, level: float) -> None:
        super().__init__()
        self.direction, self.level = direction, level

    def forward(self, x: Tensor) -> Tensor:
        above = x.flatten(1) @ self.direction - self.level
        return torch.stack([-above, above], 1)


def test_lower_confidence_is_clopper_pearson() -> None:
    """SciPy's exact one-sided interval, and by its definition P(X ≥ k | bound) = alpha."""
    for trials, alpha in ((1, 0.05), (100, 0.001), (5000, 0.01)):
        counts = torch.tensor([0, 1, trials // 2, trials])
        found = lower_confidence(counts, trials, alpha)
        for count, bound in zip(counts.tolist(), found.tolist(), strict=True):
            reference = binomtest(count, trials, alternative="greater").proportion_ci(1 - alpha)
            assert bound == pytest.approx(reference.low, abs=1e-12)
            if count:
                assert binom.sf(count - 1, trials, bound) == pytest.approx(alpha, rel=1e-6)


def test_the_radius_of_a_half_space_is_the_distance_at_best() -> None:
    """For a half-space p = Φ(distance/σ), so that σ Φ⁻¹(p) is the distance: no radius is longer.

    The bound on p costs the rest: with the true share of votes the radius is known in closed form.
    """
    direction = torch.tensor([0.6, 0.8, 0.0])
    distances = torch.tensor([0.05, 0.2, 0.4, -0.3])
    x = distances[:, None] * direction + 0.1 * torch.tensor([0.8, -0.6, 1.0])
    model, draws, alpha, sigma = HalfSpace(direction, 0.0), 4000, 0.001, 0.25
    random = keyed(0, torch.arange(4))
    found = smoothed(model, x, random=random, sigma=sigma, draws=draws, alpha=alpha)
    assert found.answer.tolist() == [1, 1, 1, 0]
    assert bool((found.radius <= distances.abs()).all())
    shares = torch.tensor([norm.cdf(abs(d) / sigma) for d in distances.tolist()])
    spread = 4 * (shares * (1 - shares) * draws).sqrt()
    low, high = (
        sigma * torch.special.ndtri(lower_confidence(shares * draws + s * spread, draws, alpha))
        for s in (-1, 1)
    )
    assert bool((found.radius >= low).all())
    assert bool((found.radius <= high).all())


def test_it_abstains_on_the_boundary() -> None:
    """At p = 1/2 no lower bound is above 1/2, but for the alpha that is allowed."""
    x = torch.zeros(200, 3)
    model = HalfSpace(torch.tensor([1.0, 0.0, 0.0]), 0.0)
    found = smoothed(model, x, random=keyed(1, torch.arange(200)), draws=200, alpha=0.01)
    assert int((found.answer != ABSTAIN).sum()) <= 8
    assert bool((found.radius[found.answer == ABSTAIN] == 0).all())


def test_certificates_are_wrong_as_rarely_as_promised() -> None:
    """With alpha = 0.2 about a fifth of the radii may pass the true distance; not many more."""
    model = HalfSpace(torch.tensor([1.0, 0.0]), 0.0)
    x = torch.tensor([[0.1, 0.0]]).expand(1000, 2)
    random = keyed(2, torch.arange(1000))
    found = smoothed(model, x, random=random, guesses=20, draws=100, alpha=0.2)
    wrong = int(((found.radius > 0.1) & (found.answer == 1)).sum())
    # A binomial count of 1 000 with chance 0.2, four standard deviations up.
    assert 0 < wrong <= 250


def test_a_sample_is_certified_the_same_in_any_company() -> None:
    """The noise belongs to the sample."""
    model, x = HalfSpace(torch.tensor([1.0, 0.5]), 0.1), torch.rand(9, 2)
    ids = torch.arange(9)
    whole = smoothed(model, x, random=keyed(3, ids), draws=50)
    back = smoothed(model, x.flip(0), random=keyed(3, ids.flip(0)), draws=50)
    part = smoothed(model, x[4:6], random=keyed(3, ids[4:6]), draws=50)
    assert torch.equal(whole.radius, back.radius.flip(0))
    assert torch.equal(whole.radius[4:6], part.radius)
    assert torch.equal(whole.answer[4:6], part.answer)


@pytest.mark.parametrize(
    "options",
    [{"sigma": 0.0}, {"draws": 0}, {"guesses": 0}, {"alpha": 1.0}, {"sigma": float("nan")}],
)
def test_bad_options_are_refused(options: dict) -> None:
    model = HalfSpace(torch.tensor([1.0]), 0.0)
    with pytest.raises(BadOption, match=next(iter(options))):
        smoothed(model, torch.rand(2, 1), random=keyed(0, torch.arange(2)), **options)


def test_nan_is_no_vote() -> None:
    with pytest.raises(MethodFailed, match="NaN"):
        smoothed(
            HalfSpace(torch.tensor([torch.nan]), 0.0), torch.rand(2, 1),
            random=keyed(0, torch.arange(2)), draws=2,
        )  # fmt: skip


def test_the_class_is_not_chosen_by_the_draws_that_certify_it() -> None:
    """Cohen et al.: two samples. A bound from the draws that chose the class would be too high."""
    asked: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        asked.append(x.clone())
        return torch.stack([x[:, 0], -x[:, 0]], 1)

    x = torch.zeros(1, 3)
    smoothed(model, x, random=keyed(0, torch.arange(1)), guesses=20, draws=30)
    # Blocks are filled up with copies.
    assert len(torch.cat(asked).unique(dim=0)) == 50
